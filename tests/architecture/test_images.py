"""The images hold exactly what is locked, and every file of the code."""

from __future__ import annotations

import re
from pathlib import Path

import build_images
import pytest
from build_images import Pin, differences, locked, normal, problems_of
from setuptools import Distribution

ROOT = Path(__file__).parents[2]
CODE = ("app", "config", "tasks", "workers")


def _look(name: str, **changes: object) -> dict[str, object]:
    versions = {**{key: pin.version for key, pin in locked(name).items()}, "nightshift": "0.1.0"}
    found = {"uid": 10001, "unwanted": [], "has_torch": name == "worker", "versions": versions}
    return {**found, **changes}


@pytest.mark.parametrize("name", build_images.LOCK_OF)
def test_an_image_is_built_from_the_lock_that_it_is_compared_with(name: str) -> None:
    text = (ROOT / "docker" / f"{name}.Dockerfile").read_text("utf-8")
    assert re.findall(r"--requirement config/lock/(\w+)\.txt", text) == [build_images.LOCK_OF[name]]
    assert re.findall(r"^USER (\d+)$", text, re.MULTILINE) == ["10001"]
    assert re.search(r"^ARG BASE=\S+:3\.11\.[0-9]+-slim-bookworm$", text, re.MULTILINE)


@pytest.mark.parametrize("name", build_images.LOCK_OF)
def test_an_image_as_locked_passes(name: str) -> None:
    assert problems_of(name, _look(name)) == []


def test_what_is_wrong_with_an_image_is_told() -> None:
    found = _look("api", uid=0, unwanted=["gcc"], has_torch=True)
    assert problems_of("api", found) == ["its processes run as root", "it holds ['gcc']", "it has torch"]


def test_a_version_that_is_not_locked_is_told_and_a_build_for_cpu_is_the_same_version() -> None:
    wanted = {"torch": Pin("2.13.0", everywhere=True), "numpy": Pin("2.4.6", everywhere=True)}
    assert differences(wanted, {"torch": "2.13.0+cpu", "numpy": "2.4.7"}) == ["numpy is 2.4.7 and not 2.4.6"]
    assert differences(wanted, {"torch": "2.13.0", "extra": "1"}) == [
        "numpy is missing and not 2.4.6",
        "extra is in no lock",
    ]


def test_what_only_another_python_needs_may_be_missing() -> None:
    assert differences({"async-timeout": Pin("5.0.1", everywhere=False)}, {}) == []


def test_a_name_is_the_same_however_it_is_spelt() -> None:
    assert normal("Flask_Limiter") == normal("flask-limiter")


def test_the_worker_has_all_that_the_api_has() -> None:
    assert locked("api").items() <= locked("worker").items()


def test_what_is_installed_holds_every_module_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(["setup.cfg"])
    packages = set(distribution.packages)
    folders = {path.parent.relative_to(ROOT) for top in CODE for path in (ROOT / top).rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} - packages == set()


def test_only_what_the_images_copy_is_sent_to_the_engine() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert sent == {*CODE, "pyproject.toml", "setup.cfg"}
