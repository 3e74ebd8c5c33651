"""``nightshift schedules``: nightly runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from app.cli.client import ApiClient, with_client
from app.cli.output import mix, out, print_json, print_table, with_json

ROUTE = "/v1/schedules"


@click.group()
def schedules() -> None:
    """Run jobs by the clock."""


@schedules.command()
@click.option("--name", required=True)
@click.option("--cron", required=True, help='Five fields, for example "30 2 * * *".')
@click.option("--timezone", default="UTC", show_default=True, help="IANA name; daylight saving is followed.")
@click.option("--endpoint", default="/v1/embeddings", show_default=True)
@click.option("--model", help="Model of the lines that name none.")
@click.option("--priority", type=click.Choice(["urgent", "standard", "background"]))
@click.option("--window", "completion_window", help='Completion window of each job, for example "6h".')
@click.option(
    "--job", "template", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON job template."
)
@click.option("--file-id", help="Run this uploaded file each time.")
@click.option("--prefix", help="Take every .jsonl object under this prefix of the tenant's inbox.")
@click.option("--due-by", help="HH:MM by which a run should be done.")
@with_json
@with_client
def create(
    client: ApiClient,
    /,
    *,
    template: Path | None,
    file_id: str | None,
    prefix: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Make a schedule."""
    if (file_id is None) == (prefix is None):
        raise click.UsageError("give exactly one of --file-id and --prefix")
    job_fields = {name: fields.pop(name) for name in ("endpoint", "model", "priority", "completion_window")}
    job = {**{name: value for name, value in job_fields.items() if value}, **_template(template)}
    source = {"file_id": file_id} if file_id else {"prefix": prefix}
    body = {**{name: value for name, value in fields.items() if value}, "job": job, "source": source}
    _print(client.post(ROUTE, body), as_json=as_json)


def _template(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        template: dict[str, Any] = orjson.loads(path.read_bytes())
    except ValueError as error:
        raise click.ClickException(f"{path} is not JSON: {error}") from error
    return template


@schedules.command(name="list")
@with_json
@with_client
def list_(client: ApiClient, *, as_json: bool) -> None:
    """List schedules and when each runs next."""
    page = client.get(ROUTE)
    if as_json:
        print_json(page)
        return
    rows = ((s["id"], s["name"], s["cron"], s["timezone"], s["next_run_at"]) for s in page["data"])
    print_table(["schedule", "name", "cron", "time zone", "next run"], rows, empty="no schedules yet")


@schedules.command()
@click.argument("schedule_id")
@with_json
@with_client
def show(client: ApiClient, *, schedule_id: str, as_json: bool) -> None:
    """Show one schedule."""
    _print(client.get(f"{ROUTE}/{schedule_id}"), as_json=as_json)


@schedules.command()
@click.argument("schedule_id")
@with_json
@with_client
def run(client: ApiClient, *, schedule_id: str, as_json: bool) -> None:
    """Run it now, beside its clock."""
    started = client.post(f"{ROUTE}/{schedule_id}/run")
    if as_json:
        print_json(started)
    else:
        out().print(f"{started['id']}: {_run_outcome(started)}", highlight=False)


@schedules.command()
@click.argument("schedule_id")
@with_json
@with_client
def runs(client: ApiClient, *, schedule_id: str, as_json: bool) -> None:
    """List its runs, newest first, each with its outcome mix and what is odd about it."""
    page = client.get(f"{ROUTE}/{schedule_id}/runs")
    if as_json:
        print_json(page)
        return
    rows = ((r["created_at"], r["tick_at"], _run_outcome(r), "; ".join(r["warnings"])) for r in page["data"])
    print_table(["started", "tick", "outcome", "warnings"], rows, empty="it has not run yet")


def _run_outcome(run_: dict[str, Any]) -> str:
    if run_["problem"]:
        return str(run_["problem"])
    n_jobs = len(run_["job_ids"])
    return f"{n_jobs} job{'s' if n_jobs > 1 else ''}: {mix(run_['counts'])}" if n_jobs else "starting"


@schedules.command()
@click.argument("schedule_id")
@with_json
@with_client
def delete(client: ApiClient, *, schedule_id: str, as_json: bool) -> None:
    """Delete it; its jobs stay."""
    answer = client.delete(f"{ROUTE}/{schedule_id}")
    if as_json:
        print_json(answer)
    else:
        out().print(f"deleted {schedule_id}")


def _print(schedule: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(schedule)
        return
    out().print(f"{schedule['id']}  {schedule['name']}")
    out().print(f"  {schedule['cron']} {schedule['timezone']}, next {schedule['next_run_at']}", highlight=False)
    source = schedule["source"]
    runs_on = source.get("file_id") or f"every .jsonl under {source['prefix']} of the inbox"
    out().print(f"  {runs_on}, on {schedule['job'].get('endpoint')}", highlight=False)
