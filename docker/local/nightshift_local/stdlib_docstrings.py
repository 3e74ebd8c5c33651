"""Real text that every machine has: the docstrings of the installed Python standard library."""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Installed packages are not the standard library; test data holds files that are broken on purpose.
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"})
_SHORTEST = 40

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Docstring:
    """One documented thing.

    Attributes:
        name: dotted, as one would import it: ``json.JSONEncoder.default``.
    """

    name: str
    text: str


def collect_docstrings() -> list[Docstring]:
    """Every docstring of at least 40 characters, each text once, in a stable order."""
    root = Path(sysconfig.get_path("stdlib"))
    by_text: dict[str, Docstring] = {}
    for path in _sources(root):
        for docstring in _docstrings_of(path, root):
            by_text.setdefault(docstring.text, docstring)
    return list(by_text.values())


def _sources(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        if not _SKIPPED_FOLDERS.intersection(path.relative_to(root).parts):
            yield path


def _docstrings_of(path: Path, root: Path) -> Iterator[Docstring]:
    try:
        with warnings.catch_warnings(action="ignore"):
            module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # a file for another Python, kept there as data
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    yield from _walk(module, name)


def _walk(node: Documented, name: str) -> Iterator[Docstring]:
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    if len(text) >= _SHORTEST:
        yield Docstring(name, text)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, f"{name}.{child.name}")
