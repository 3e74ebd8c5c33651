"""``nightshift submit``: upload a file, make a job of it, and watch it if asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from app.cli.client import ApiClient, with_client
from app.cli.jobs import print_job
from app.cli.output import err, mix, out, print_json, with_json
from app.cli.paths import path_of
from app.cli.upload import upload_file

TERMINAL = frozenset({"succeeded", "partially_succeeded", "failed", "expired", "cancelled"})
# What a script learns from `submit --watch` without reading its output; 1 is every other failure.
EXIT_CODES = {"succeeded": 0, "partially_succeeded": 3, "failed": 4, "expired": 5, "cancelled": 6}
PRIORITIES = ("urgent", "standard", "background")
FIRST_LOOK_S, LONGEST_PAUSE_S = 0.1, 2.0


def pairs(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """``k=v`` words as a mapping."""
    if wrong := [value for value in values if "=" not in value]:
        raise click.BadParameter(f"{wrong[0]!r} is not KEY=VALUE")
    return dict(value.split("=", 1) for value in values)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--endpoint", default="/v1/embeddings", show_default=True, help="The route each line is for.")
@click.option("--model", help="Model of the lines that name none.")
@click.option("--priority", type=click.Choice(PRIORITIES))
@click.option("--window", "completion_window", help='Completion window, for example "1h"; 24h unless told.')
@click.option("--metadata", multiple=True, callback=pairs, metavar="KEY=VALUE", help="May be given 16 times.")
@click.option("--watch", is_flag=True, help="Stay until the job ends; the exit code says how.")
@with_json
@with_client
def submit(client: ApiClient, /, *, file: Path, watch: bool, as_json: bool, **fields: Any) -> None:
    """Upload FILE (JSONL) and run it as one job, or as a group of jobs where it is large.

    With --watch the exit code is 0 for succeeded, 3 partially succeeded, 4 failed, 5 expired, 6 cancelled.
    """
    console = Console(stderr=True, quiet=as_json)
    file_id = upload_file(client, file, console)
    wanted = {name: value for name, value in fields.items() if value}
    job = client.post("/v1/jobs", {"input_file_id": file_id, **wanted})
    if watch:
        console.print(f"[bold]{job['id']}[/bold]")
        job = watch_job(client, job["id"], console)
    _report(job, as_json=as_json, watched=watch)
    if watch:
        raise click.exceptions.Exit(EXIT_CODES[job["state"]])


def _report(job: dict[str, Any], *, as_json: bool, watched: bool) -> None:
    if as_json:
        print_json(job)
    elif watched:
        print_job(job)
    else:
        out().print(job["id"])
        err().print(f"nightshift show {job['id']}", style="dim")


def watch_job(client: ApiClient, job_id: str, console: Console) -> dict[str, Any]:
    """Show the progress of a job, or of a group, until it is terminal; return it as it ended."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
        TextColumn("{task.fields[mix]}"),
    )
    pause_s = FIRST_LOOK_S
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("validating", total=None, eta="", mix="")
        while True:
            job: dict[str, Any] = client.get(path_of(job_id))
            counts = job["counts"]
            done = counts["total"] - counts["pending"] - counts["running"]
            progress.update(
                task,
                description=_phase(job),
                total=counts["total"] or None,
                completed=done,
                eta=_eta(job),
                mix=mix(counts),
            )
            if job["state"] in TERMINAL:
                return job
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


def _phase(job: dict[str, Any]) -> str:
    waiting = job.get("waiting")
    return f"{job['state']} ({waiting['reason']})" if waiting else str(job["state"])


def _eta(job: dict[str, Any]) -> str:
    eta = job.get("eta")
    return f"{eta['seconds']:.0f} s left ({eta['low']:.0f} to {eta['high']:.0f})" if eta else ""
