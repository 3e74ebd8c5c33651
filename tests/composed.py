"""docker/compose.yml as Docker Compose reads it: merged with what is laid over it, variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "docker"
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?P<rule>:[-?])?(?P<rest>[^}]*)\})")


def read_compose(*names: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """The files, each laid over the ones before it.

    Raises:
        KeyError: a variable that has no default is not given.
    """
    merged: dict[str, Any] = {}
    for name in names:
        merged = _overlay(merged, yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")))
    filled = _fill({key: value for key, value in merged.items() if not key.startswith("x-")}, variables)
    assert isinstance(filled, dict)
    return filled


def required_variables(*names: str) -> set[str]:
    """The variables that have no default."""
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in names]
    found = [match for text in texts for match in _VARIABLE.finditer(text)]
    return {match["name"] for match in found if match["name"] and match["rule"] != ":-"}


def _overlay(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _overlay(below.get(key), value) for key, value in above.items()}}
    return above


def _fill(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, variables) for value in node]
    return _VARIABLE.sub(lambda match: _value(match, variables), node) if isinstance(node, str) else node


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["name"] is None:
        return "$"
    given = variables.get(match["name"])
    if given is None and match["rule"] == ":-":
        return match["rest"]
    return variables[match["name"]]
