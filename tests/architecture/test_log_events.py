"""Events of the log are constant: whoever looks for one finds it, and no client's text gets into a name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("app", "config", "tasks", "workers") for path in sorted((ROOT / folder).rglob("*.py"))]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_EVENT = re.compile(r"[a-z]+(_[a-z]+)*")


def _events(tree: ast.Module) -> Iterator[ast.expr]:
    """The first argument of every call of ``log.LEVEL``."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            yield node.args[0]


def _is_constant(event: ast.expr) -> bool:
    if isinstance(event, ast.IfExp):
        return _is_constant(event.body) and _is_constant(event.orelse)
    if isinstance(event, ast.Name):  # a parameter, given by callers in the same module
        return event.id == "event"
    return isinstance(event, ast.Constant) and _EVENT.fullmatch(str(event.value)) is not None


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_event_has_a_constant_name(source: Path) -> None:
    wrong = [ast.unparse(event) for event in _events(ast.parse(source.read_text("utf-8"))) if not _is_constant(event)]
    assert wrong == []
