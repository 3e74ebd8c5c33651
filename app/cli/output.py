"""What commands print: tables for people, or JSON for programs under ``--json``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

Command = TypeVar("Command", bound=Callable[..., Any])

PIPED_WIDTH = 200

STATE_COLOURS = {
    "succeeded": "green",
    "ok": "green",
    "partially_succeeded": "yellow",
    "warning": "yellow",
    "failed": "red",
    "expired": "red",
    "cancelled": "dim",
    "running": "cyan",
    "live": "green",
    "draining": "yellow",
    "drained": "dim",
    "stuck": "red",
    "silent": "red",
}


def with_json(command: Command) -> Command:
    """Give a command ``--json``, passed to it as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)


def out() -> Console:
    """The console of answers (stdout)."""
    return _console()


def err() -> Console:
    """The console of progress and errors (stderr)."""
    return _console(stderr=True)


def _console(*, stderr: bool = False) -> Console:
    """A console that does not fold ids where its lines go to another program, and takes names as they are."""
    literal: dict[str, Any] = {"stderr": stderr, "soft_wrap": True, "markup": False, "emoji": False}
    console = Console(**literal)
    return console if console.is_terminal else Console(**literal, width=PIPED_WIDTH)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """A table, or a sentence where there is nothing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out().print(table if table.row_count else empty)


def coloured(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=STATE_COLOURS.get(state, ""))


def _cell(value: Any) -> Text:
    return Text("-") if value is None else coloured(str(value))


def mix(counts: dict[str, int]) -> str:
    """The outcome mix of a job in a few words: ``97 succeeded, 3 failed, 0 pending``."""
    shown = ("succeeded", "failed", "cancelled", "expired", "running", "pending")
    parts = [f"{counts.get(name, 0):,} {name}" for name in shown if counts.get(name)]
    return ", ".join(parts) or "no items yet"


def share_of(counts: dict[str, int]) -> str:
    """How much of a job is done: ``100/250``."""
    done = counts["total"] - counts["pending"] - counts["running"]
    return f"{done:,}/{counts['total']:,}"


def fails_with_a_sentence(*errors: type[Exception]) -> Callable[[Command], Command]:
    """Turn these errors of a command into one sentence on stderr and exit code 1."""

    def wrap(command: Command) -> Command:
        @functools.wraps(command)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return command(*args, **kwargs)
            except errors as error:
                raise click.ClickException(str(error)) from error

        return cast("Command", run)

    return wrap
