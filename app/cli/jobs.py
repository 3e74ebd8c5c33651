"""Commands on jobs that exist."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import httpx
import orjson
from rich.text import Text

from app.cli.client import ApiClient, with_client
from app.cli.output import coloured, err, mix, out, print_json, print_table, share_of, with_json
from app.cli.paths import path_of
from app.domain.states import JobState

STATES = tuple(state.value for state in JobState)
OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
RESUMES = 5
RESUME_PAUSE_S = 1.0


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@click.option("--after", help="Continue behind this job.")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--model", help="Only jobs of this model.")
@with_json
@with_client
def jobs(
    client: ApiClient, *, limit: int, after: str | None, state: str | None, model: str | None, as_json: bool
) -> None:
    """List jobs, newest first."""
    page = client.get("/v1/jobs", limit=limit, after=after, state=state, model=model)
    if as_json:
        print_json(page)
        return
    columns = ["job", "state", "done", "endpoint", "model", "priority", "created"]
    is_narrowed = any((after, state, model))
    empty = "no such jobs" if is_narrowed else "no jobs yet: `nightshift submit FILE` makes one"
    print_table(columns, map(_row, page["data"]), empty=empty)
    if page.get("has_more"):
        err().print(f"more: nightshift jobs --after {page['last_id']}", style="dim")


def _row(job: dict[str, Any]) -> tuple[Any, ...]:
    share = share_of(job["counts"])
    return job["id"], job["state"], share, job["endpoint"], job["model"], job["priority"], job["created_at"]


@click.command()
@click.argument("job_id")
@with_json
@with_client
def show(client: ApiClient, *, job_id: str, as_json: bool) -> None:
    """Show one job or group: state, outcome mix, why it waits, when it ends."""
    job = client.get(path_of(job_id))
    if as_json:
        print_json(job)
    else:
        print_job(job)


def print_job(job: dict[str, Any]) -> None:
    """A job, or a group, for people."""
    out().print(Text.assemble(job["id"], "  ", coloured(job["state"]), f"  {job['progress']:.0%}"))
    for label, value in _facts(job):
        out().print(f"  {label:<10}{value}", highlight=False)
    for problem in job["errors"]["validation"]:
        out().print(f"  line {problem['line']}: {problem['message']} ({problem['code']})", highlight=False)


def _facts(job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines about a job that hold something."""
    yield "items", mix(job["counts"])
    if "jobs" in job:
        yield "jobs", f"{len(job['jobs']):,}"
    model = job["model"] or "the model each line names"
    yield "runs", f"{job['endpoint']} with {model}, {job['priority']}, within {job['completion_window']}"
    if job.get("waiting"):
        place = job["waiting"]["position"]
        at = f" (place {place:,})" if place else ""
        yield "waits", f"{job['waiting']['reason']}{at}: {job['waiting']['detail']}"
    if job.get("eta"):
        yield "eta", f"{job['eta']['seconds']:.0f} s ({job['eta']['low']:.0f} to {job['eta']['high']:.0f})"
    if job["errors"]["by_code"]:
        yield "errors", ", ".join(f"{code} {n:,}" for code, n in job["errors"]["by_code"].items())
    yield "tokens", f"{job['usage']['total_tokens']:,}"
    yield "created", job["created_at"]
    if job.get("finished_at"):
        yield "finished", job["finished_at"]


@click.command()
@click.argument("job_id")
@with_json
@with_client
def cancel(client: ApiClient, *, job_id: str, as_json: bool) -> None:
    """Cancel a job or a group; what finished is kept."""
    _steer(client, job_id, "cancel", as_json=as_json)


@click.command()
@click.argument("job_id")
@with_json
@with_client
def pause(client: ApiClient, *, job_id: str, as_json: bool) -> None:
    """Pause a job or a group; its window runs on."""
    _steer(client, job_id, "pause", as_json=as_json)


@click.command()
@click.argument("job_id")
@with_json
@with_client
def resume(client: ApiClient, *, job_id: str, as_json: bool) -> None:
    """Let a paused job or group go on."""
    _steer(client, job_id, "resume", as_json=as_json)


def _steer(client: ApiClient, job_id: str, verb: str, *, as_json: bool) -> None:
    job = client.post(f"{path_of(job_id)}/{verb}")
    if as_json:
        print_json(job)
    else:
        print_job(job)


@click.command()
@click.argument("job_id")
@click.option("--status", type=click.Choice(OUTCOMES), help="Only results of this outcome.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write here instead of stdout.")
@click.option("--after", help="Continue behind this cursor.")
@with_json
@with_client
def results(
    client: ApiClient, *, job_id: str, status: str | None, output: Path | None, after: str | None, as_json: bool
) -> None:
    """Stream result lines (NDJSON) of a job or a group, finished or running.

    A connection that breaks is taken up again where it broke. Under --json, what was written is told on stderr.
    """
    with click.open_file(str(output) if output else "-", "wb") as sink:
        report = fetch_results(client, job_id, sink=sink, status=status, after=after)
    _report_results(report, output, as_json=as_json)


def fetch_results(
    client: ApiClient, job_id: str, *, sink: IO[bytes], status: str | None, after: str | None = None
) -> dict[str, Any]:
    """Write result lines page by page until there is no next cursor.

    Returns:
        ``{"lines", "complete", "next_cursor"}``; the cursor is where a later call goes on, None at the end.
    """
    n_lines, cursor, complete, resumes = 0, after, False, 0
    while True:
        try:
            page = _fetch_page(client, job_id, status=status, after=cursor)
        except click.ClickException as error:
            if not isinstance(error.__cause__, httpx.HTTPError) or resumes == RESUMES:
                raise
            resumes += 1
            time.sleep(RESUME_PAUSE_S * resumes)
            continue
        sink.write(page["lines"])
        n_lines += page["lines"].count(b"\n")
        complete, last, cursor = page["complete"], cursor, page["next_cursor"]
        if cursor is None or cursor == last:
            return {"lines": n_lines, "complete": complete, "next_cursor": cursor}


def _fetch_page(client: ApiClient, job_id: str, *, status: str | None, after: str | None) -> dict[str, Any]:
    """One page of whole lines; asked for by number, so that it fits in memory and a broken one is asked for again."""
    with client.stream(f"{path_of(job_id)}/results", status=status, after=after, limit=1000) as response:
        lines = response.read()
        return {
            "lines": lines if not lines or lines.endswith(b"\n") else lines + b"\n",
            "complete": response.headers.get("x-nightshift-complete") == "true",
            "next_cursor": response.headers.get("x-nightshift-next-cursor"),
        }


def _report_results(report: dict[str, Any], output: Path | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(report), err=True)
        return
    if output:
        err().print(f"{report['lines']:,} lines in {output}")
    if not report["complete"]:
        again = f" --after {report['next_cursor']}" if report["next_cursor"] else ""
        err().print(
            f"the job still runs: these are the results so far{again and ', go on with'}{again}", style="yellow"
        )
