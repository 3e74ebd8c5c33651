"""Writes ``docs/configuration.md`` from the settings: ``python -m config.document``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from config.settings import PREFIX, Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
_HEADER = """\
# Configuration

Every process reads its configuration once, at its start, from these variables; a missing or unreadable one stops it
and is named. This page is generated: `python -m config.document`.

| variable | default | what it is |
|---|---|---|
"""
_FOOTER = """
The command line reads `NIGHTSHIFT_URL`, `NIGHTSHIFT_API_KEY` and `NIGHTSHIFT_ADMIN_KEY`, else the nearest
`.nightshift/env` at or above the working folder, which the local stack writes.
"""


def configuration_page() -> str:
    """The page as it should stand."""
    rows = (_row(spec) for spec in dataclasses.fields(Settings))
    return _HEADER + "\n".join(rows) + "\n" + _FOOTER


def _row(spec: dataclasses.Field[Any]) -> str:
    return f"| `{PREFIX}{spec.name.upper()}` | {_default(spec)} | {spec.metadata['help']} |"


def _default(spec: dataclasses.Field[Any]) -> str:
    if spec.default is dataclasses.MISSING:
        return "required"
    value = spec.default
    if isinstance(value, Path):
        value = _portable(value)
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return "empty" if value is None or value == "" else f"`{value}`"


def _portable(path: Path) -> str:
    """A path without the folder of whoever generates the page."""
    root = PAGE.parents[1]
    if path.is_relative_to(root):
        return str(path.relative_to(root))
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def main() -> None:
    """Write the page."""
    PAGE.write_text(configuration_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
