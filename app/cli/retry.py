"""``nightshift retry``: run again what did not succeed, and watch it if asked."""

from __future__ import annotations

import click
from rich.console import Console

from app.cli.client import ApiClient, with_client
from app.cli.jobs import print_job
from app.cli.output import print_json, with_json
from app.cli.paths import path_of
from app.cli.submit import EXIT_CODES, watch_job
from app.domain.retry_plan import RETRIED_OUTCOMES


@click.command()
@click.argument("job_id")
@click.option(
    "--include", multiple=True, type=click.Choice(RETRIED_OUTCOMES), help="Only items that ended so; may be repeated."
)
@click.option("--watch", is_flag=True, help="Stay until the job ends; the exit code says how.")
@with_json
@with_client
def retry(client: ApiClient, *, job_id: str, include: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """Run again, in place, the items of an ended job or group that did not succeed.

    With --watch the exit code is that of `submit --watch`.
    """
    job = client.post(f"{path_of(job_id)}/retry", {"include": include} if include else None)
    if watch:
        job = watch_job(client, job["id"], Console(stderr=True, quiet=as_json))
    if as_json:
        print_json(job)
    else:
        print_job(job)
    if watch:
        raise click.exceptions.Exit(EXIT_CODES[job["state"]])
