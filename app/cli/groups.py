"""The command that lists groups; ``show``, ``results``, ``cancel``, ``pause``, ``resume`` take their ids as well."""

from __future__ import annotations

from typing import Any

import click

from app.cli.client import ApiClient, with_client
from app.cli.output import err, print_json, print_table, share_of, with_json


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@click.option("--after", help="Continue behind this group.")
@with_json
@with_client
def groups(client: ApiClient, *, limit: int, after: str | None, as_json: bool) -> None:
    """List groups of jobs, which large files become, newest first."""
    page = client.get("/v1/groups", limit=limit, after=after)
    if as_json:
        print_json(page)
        return
    columns = ["group", "state", "done", "jobs", "endpoint", "model", "created"]
    print_table(columns, map(_row, page["data"]), empty="no groups" if after else "no groups yet")
    if page["has_more"]:
        err().print(f"more: nightshift groups --after {page['last_id']}", style="dim")


def _row(group: dict[str, Any]) -> tuple[Any, ...]:
    shown = (group[name] for name in ("endpoint", "model", "created_at"))
    return group["id"], group["state"], share_of(group["counts"]), f"{len(group['jobs']):,}", *shown
