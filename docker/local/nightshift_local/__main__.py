"""``python docker/local/nightshift_local COMMAND``: the local stack from the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path

if not __package__:
    # Started by its path, not with -m: make the package importable under its own name.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import click
from rich.console import Console
from rich.table import Table

from nightshift_local.errors import StackError
from nightshift_local.home import find_home
from nightshift_local.stack import Stack


def _say(line: str) -> None:
    click.echo(line, err=True)


def _stack() -> Stack:
    return Stack(find_home(), _say)


@click.group()
def main() -> None:
    """Run Nightshift's local stack. Its folder is $NIGHTSHIFT_HOME, else .nightshift in the project."""


@main.command()
@click.option("--servers-only", is_flag=True, help="Only PostgreSQL, RabbitMQ, Redis and S3; see settings.env.")
def up(*, servers_only: bool) -> None:
    """Start the stack in the background and write its addresses to the file env."""
    _stack().up(servers_only=servers_only)


@main.command()
def down() -> None:
    """Stop the stack; its data stays."""
    _stack().down()


@main.command()
@click.argument("name")
def restart(name: str) -> None:
    """Stop one process cleanly and start it again."""
    _stack().restart(name)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def ps(*, as_json: bool) -> None:
    """Show name, pid, port and state of every process; exits 1 where nothing runs."""
    rows = [{**dataclasses.asdict(state), "port": port} for state, port in _stack().states()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        table = Table("name", "pid", "port", "state", "details")
        for row in rows:
            row["description"] = str(row["description"]).removeprefix(f"pid {row['pid']}, ")
            table.add_row(*(str(row[key] or "-") for key in ("name", "pid", "port", "state", "description")))
        Console().print(table)
    else:
        _say("The stack is not running.")
    sys.exit(0 if rows else 1)


@main.command()
@click.option("--limit", type=int, help="Only so many texts.")
def demo(limit: int | None) -> None:
    """Embed the docstrings of the Python standard library as one batch, then search in them."""
    # Not at the top: `up` and `down` need neither numpy nor the openai SDK.
    from nightshift_local.demo import run_demo  # noqa: PLC0415

    run_demo(_stack(), Console(), limit=limit)


@main.command()
@click.argument("names", nargs=-1)
@click.option("--lines", default=20, show_default=True, help="Lines of each log.")
@click.option("--follow/--no-follow", default=False, help="Keep printing.")
def logs(*, names: tuple[str, ...], lines: int, follow: bool) -> None:
    """Print the logs of all processes, or of those named."""
    folder = find_home().logs
    paths = [folder / f"{name}.log" for name in names] or sorted(folder.glob("*.log"))
    missing = [path for path in paths if not path.exists()]
    if missing or not paths:
        there = ", ".join(path.stem for path in sorted(folder.glob("*.log"))) or "none; start the stack with `make up`"
        raise StackError(f"There is no log {missing[0] if missing else folder}. There are: {there}.")
    tail = shutil.which("tail") or "/usr/bin/tail"
    os.execv(tail, ["tail", f"--lines={lines}", *(["--follow=name"] if follow else []), *map(str, paths)])


def _end_as_if_interrupted(_signal_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _speak_to_loopback_directly() -> None:
    """Keep a proxy in the environment out of what never leaves this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end_as_if_interrupted)
    _speak_to_loopback_directly()
    try:
        main()
    except (StackError, OSError) as error:
        _say(f"\nerror: {error}")
        sys.exit(1)
