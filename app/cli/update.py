"""``nightshift update``: change a job while it lives."""

from __future__ import annotations

from typing import Any

import click

from app.cli.client import ApiClient, with_client
from app.cli.jobs import print_job
from app.cli.output import print_json, with_json
from app.cli.submit import PRIORITIES, pairs


@click.command()
@click.argument("job_id")
@click.option("--priority", type=click.Choice(PRIORITIES))
@click.option("--window", "completion_window", help='Completion window from the creation of the job, such as "2h".')
@click.option(
    "--metadata",
    multiple=True,
    callback=pairs,
    metavar="KEY=VALUE",
    help="May be given 16 times; takes the place of all pairs.",
)
@with_json
@with_client
def update(client: ApiClient, /, *, job_id: str, as_json: bool, **fields: Any) -> None:
    """Change the priority, window or metadata of a live job."""
    changes = {name: value for name, value in fields.items() if value}
    if not changes:
        raise click.UsageError("give at least one of --priority, --window and --metadata")
    job = client.patch(f"/v1/jobs/{job_id}", changes)
    if as_json:
        print_json(job)
    else:
        print_job(job)
