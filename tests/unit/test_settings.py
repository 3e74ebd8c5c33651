"""Settings are read once, and every mistake in them is named."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import ClientSettings, Settings, SettingsError, read_shell_variables

LEAST = {
    "NIGHTSHIFT_DATABASE_URL": "postgresql+psycopg2://u:secret-1@h/d",
    "NIGHTSHIFT_BROKER_URL": "amqp://u:secret-2@h//",
    "NIGHTSHIFT_REDIS_URL": "redis://:secret-3@h",
    "NIGHTSHIFT_S3_ENDPOINT": "http://h:1",
    "NIGHTSHIFT_S3_ACCESS_KEY": "secret-4",
    "NIGHTSHIFT_S3_SECRET_KEY": "secret-5",
    "NIGHTSHIFT_KEY_PEPPER": "secret-6",
}


def test_the_required_variables_are_enough() -> None:
    settings = Settings.from_environ(LEAST)
    assert settings.queues == ("cpu.0",)
    assert not settings.broker_is_redis
    assert dataclasses.replace(settings, broker_url="redis://h").broker_is_redis


def test_every_missing_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ({})
    assert all(name in str(refused.value) for name in LEAST)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_S", "soon"),
        ("LEASE_S", "0"),
        ("LEASE_S", "-1"),
        ("LEASE_S", "nan"),
        ("LEASE_S", "inf"),
        ("MAX_JOB_ITEMS", "1.5"),
        ("QUEUES", ""),
        ("QUEUES", "cpu"),
        ("QUEUES", "cpu.0,CPU.1"),
    ],
)
def test_an_unreadable_value_stops_the_boot_and_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"NIGHTSHIFT_{name}"):
        Settings.from_environ({**LEAST, f"NIGHTSHIFT_{name}": value})


def test_secrets_are_not_shown() -> None:
    assert "secret-" not in repr(Settings.from_environ(LEAST))


def test_queues_are_read_in_their_order() -> None:
    settings = Settings.from_environ({**LEAST, "NIGHTSHIFT_QUEUES": " gpu.1, cpu.0 ,"})
    assert settings.queues == ("gpu.1", "cpu.0")


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), st.text(st.characters(codec="utf-8"))))
@example({"A": "two\u2028lines"})
@example({"A": "two\nlines", "B": "# no comment"})
def test_shell_variables_are_read_as_a_shell_would(variables: dict[str, str]) -> None:
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    assert read_shell_variables(text) == variables


def test_comments_and_empty_lines_hold_no_shell_variables() -> None:
    assert read_shell_variables("# A=1\n\nB=2 # C=3\r\nexport D='4 5'\n") == {"B": "2", "D": "4 5"}


def test_keys_of_the_file_are_not_sent_to_another_address(tmp_path: Path) -> None:
    folder = tmp_path / ".nightshift"
    folder.mkdir()
    (folder / "env").write_text("export NIGHTSHIFT_URL=http://mine\nexport NIGHTSHIFT_API_KEY=key\n")
    assert ClientSettings.find({}, tmp_path).api_key == "key"
    assert ClientSettings.find({"NIGHTSHIFT_URL": "http://other"}, tmp_path).api_key == ""


@pytest.mark.parametrize("key", ["a\nb", "a b", "caf\u00e9"])
def test_a_key_that_no_header_takes_is_refused_and_not_shown(key: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NIGHTSHIFT_API_KEY") as refused:
        ClientSettings.find({"NIGHTSHIFT_URL": "http://h", "NIGHTSHIFT_API_KEY": key}, tmp_path)
    assert key not in str(refused.value)


def test_an_address_without_a_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="http://"):
        ClientSettings.find({"NIGHTSHIFT_URL": "localhost:8000"}, tmp_path)


def test_bounds_of_autoscaling_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="MIN_WORKERS is 9 and NIGHTSHIFT_SCALE_MAX_WORKERS only 8"):
        Settings.from_environ({**LEAST, "NIGHTSHIFT_SCALE_MIN_WORKERS": "9", "NIGHTSHIFT_SCALE_MAX_WORKERS": "8"})
