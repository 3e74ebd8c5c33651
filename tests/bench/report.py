"""The figures as a table: on the screen, beside those of the last run, and in Markdown for the README."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.history import History
from tests.bench.rows import Row, shown

BEGIN, END = "<!-- figures: written by the bench -->", "<!-- end of figures -->"
_MARKS = {True: "yes", False: "no", None: ""}


def print_rows(rows: Sequence[Row], before: History, console: Console) -> None:
    """Print what was measured now, and how it was the last time."""
    table = Table("what", "measured", "spread", "target", "met", "last run")
    for row in rows:
        previous = before.previous(row)
        last = "" if previous is None else shown(previous, row.unit)
        table.add_row(
            row.what.replace("`", ""), shown(row.value, row.unit), _spread(row), _target(row), _MARKS[row.is_met], last
        )
    console.print(table)


def markdown(history: History, *, but: Iterable[str] = ()) -> str:
    """The table of everything that was ever measured on this machine.

    Args:
        but: beginnings of the keys of rows to leave out.
    """
    lines = ["| what | measured | spread | target |", "|---|---|---|---|"]
    for key, measured in history.measured.items():
        if not key.startswith(tuple(but)):
            row = measured.row
            lines.append(f"| {row.what} | {shown(row.value, row.unit)} | {_spread(row)} | {_target(row)} |")
    return "\n".join(lines) + "\n"


def write_between_marks(page: Path, table: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        ValueError: the page has no such marks.
    """
    content = page.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(content):
        raise ValueError(f"{page} has no place for the figures: {BEGIN} ... {END}")
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table}{END}", content), encoding="utf-8")


def _spread(row: Row) -> str:
    values = row.sample.values
    return f"{shown(min(values), row.unit)} to {shown(max(values), row.unit)}" if len(values) > 1 else ""


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"{'>=' if row.target.at_least else '<='} {shown(row.target.limit, row.unit)}"
