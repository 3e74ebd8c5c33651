"""``nightshift up|down|ps|logs``: the local stack of a checkout.

The stack lives in ``docker/local`` and is no part of the installed package, so these commands hand over to it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from app.cli.output import print_json, with_json

STACK = Path(__file__).resolve().parents[2] / "docker" / "local" / "nightshift_local"


@click.command()
@with_json
def up(*, as_json: bool) -> None:
    """Start the local stack in the background."""
    _run(["up"])
    if as_json:
        _run(["ps", "--json"])


@click.command()
@with_json
def down(*, as_json: bool) -> None:
    """Stop the local stack; its data stays."""
    _run(["down"])
    if as_json:
        print_json({"stopped": True})


@click.command()
@with_json
def ps(*, as_json: bool) -> None:
    """Show each process of the local stack."""
    _run(["ps", *(["--json"] if as_json else [])])


@click.command()
@click.argument("names", nargs=-1)
@click.option("--lines", default=20, show_default=True, help="Lines of each log.")
@click.option("-f", "--follow", is_flag=True, help="Keep printing.")
@with_json
def logs(*, names: tuple[str, ...], lines: int, follow: bool, as_json: bool) -> None:
    """Print the logs of the local stack, all or those named; each of our own lines is JSON already."""
    if as_json and follow:
        raise click.UsageError("--follow has no end, so it cannot be one JSON document")
    arguments = ["logs", *names, f"--lines={lines}", *(["--follow"] if follow else [])]
    if as_json:
        print_json({"lines": _run(arguments, capture=True).splitlines()})
    else:
        _run(arguments)


def _run(arguments: Sequence[str], *, capture: bool = False) -> str:
    """Run the stack's own command line; its exit code, where not 0, becomes ours."""
    if not STACK.is_dir():
        raise click.ClickException(
            "this command needs a checkout of Nightshift (it runs docker/local); an installed package has no local "
            "stack: set NIGHTSHIFT_URL to a running Nightshift instead"
        )
    command = [sys.executable, str(STACK), *arguments]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        raise click.exceptions.Exit(done.returncode)
    return done.stdout or ""
