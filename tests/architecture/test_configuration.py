"""The configuration is read in one place and every setting is documented."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from config.document import PAGE, configuration_page
from config.settings import ClientSettings, Settings, SettingsError, read_shell_variables

ROOT = Path(__file__).resolve().parents[2]
READER = ROOT / "config" / "settings.py"
# A worker pins its device through the environment, before any library loads; it writes and reads nothing.
WRITERS = {"workers/gpu.py"}


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return (
            node.attr in {"environ", "getenv", "environb"}
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        )
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(name.name in {"environ", "getenv"} for name in node.names)
    return False


def test_only_the_settings_read_the_environment() -> None:
    sources = [path for folder in ("app", "tasks", "workers", "config") for path in (ROOT / folder).rglob("*.py")]
    readers = {
        str(path.relative_to(ROOT))
        for path in sources
        if path != READER
        and str(path.relative_to(ROOT)) not in WRITERS
        and any(_reads_environment(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    }
    assert readers == set()


def test_the_configuration_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == configuration_page(), "run `python -m config.document`"


def test_every_setting_says_what_it_is_for() -> None:
    assert [spec.name for spec in dataclasses.fields(Settings) if not spec.metadata["help"]] == []


def test_every_secret_setting_is_marked() -> None:
    suspicious = ("key", "secret", "dsn", "pepper", "_url")
    open_ = {"public_url"}
    unmarked = [
        spec.name
        for spec in dataclasses.fields(Settings)
        if any(word in spec.name for word in suspicious) and not spec.metadata["secret"] and spec.name not in open_
    ]
    assert unmarked == []


def test_all_missing_variables_are_named_at_once(required: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ({})
    assert [name for name in required if name not in str(refused.value)] == []


def test_an_unreadable_variable_is_named_and_a_secret_one_not_shown(required: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="NIGHTSHIFT_CHUNK_TARGET_S is 'soon'"):
        Settings.from_environ({**required, "NIGHTSHIFT_CHUNK_TARGET_S": "soon"})
    with pytest.raises(SettingsError, match="NIGHTSHIFT_QUEUES"):
        Settings.from_environ({**required, "NIGHTSHIFT_QUEUES": "not a queue"})


def test_a_required_variable_that_is_a_secret_is_marked_so(required: dict[str, str]) -> None:
    shown = {spec.name for spec in dataclasses.fields(Settings) if not spec.metadata["secret"]}
    assert {name for name in required if name.removeprefix("NIGHTSHIFT_").lower() in shown} == {
        "NIGHTSHIFT_S3_ENDPOINT"
    }


def test_the_command_line_finds_the_stack_of_the_nearest_folder_above(tmp_path: Path) -> None:
    (tmp_path / ".nightshift").mkdir()
    lines = "export NIGHTSHIFT_URL='http://stack:1/'\nexport NIGHTSHIFT_API_KEY=k1\n# a comment\n"
    (tmp_path / ".nightshift" / "env").write_text(lines)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = ClientSettings.find({}, below)
    assert (found.url, found.api_key, found.admin_key) == ("http://stack:1", "k1", "")


def test_the_environment_comes_before_the_file_and_the_files_key_goes_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / ".nightshift").mkdir()
    (tmp_path / ".nightshift" / "env").write_text("NIGHTSHIFT_URL=http://stack:1\nNIGHTSHIFT_API_KEY=k1\n")
    found = ClientSettings.find({"NIGHTSHIFT_URL": "http://elsewhere"}, tmp_path)
    assert (found.url, found.api_key) == ("http://elsewhere", "")


def test_without_an_address_the_command_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="make up"):
        ClientSettings.find({}, tmp_path)


def test_shell_quoting_is_understood() -> None:
    text = "export A='x y'\nB=\"z\"\nC=1 # why\n\n"
    assert read_shell_variables(text) == {"A": "x y", "B": "z", "C": "1"}
