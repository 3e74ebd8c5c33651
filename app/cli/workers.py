"""``nightshift workers``: the device workers of all hosts, with the operator's key."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from app.cli.client import ApiClient, with_client
from app.cli.output import out, print_json, print_table, with_json

ROUTE = "/v1/admin/workers"


@click.group()
def workers() -> None:
    """List, drain and undrain device workers; needs NIGHTSHIFT_ADMIN_KEY."""


@workers.command(name="list")
@with_json
@with_client
def list_(client: ApiClient, *, as_json: bool) -> None:
    """List workers with what they run."""
    page = client.as_admin().get(ROUTE)
    if as_json:
        print_json(page)
        return
    columns = ["worker", "state", "host", "up for", "warm models", "runs", "waiting"]
    print_table(columns, map(_row, page["data"]), empty="no worker has registered yet")


@workers.command()
@click.argument("name")
@with_json
@with_client
def drain(client: ApiClient, *, name: str, as_json: bool) -> None:
    """Let the worker NAME (such as gpu.0) finish its chunk and take no more, until `undrain`."""
    _say(client.as_admin().post(f"{ROUTE}/{quote(name, safe='')}/drain"), as_json=as_json)


@workers.command()
@click.argument("name")
@with_json
@with_client
def undrain(client: ApiClient, *, name: str, as_json: bool) -> None:
    """Let the worker NAME take chunks again."""
    _say(client.as_admin().post(f"{ROUTE}/{quote(name, safe='')}/undrain"), as_json=as_json)


def _say(worker: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(worker)
        return
    running = worker["running"]
    busy = f"; it still runs chunk {running['chunk_id']} of {running['job_id']}" if running else ""
    out().print(f"{worker['queue']} is {worker['state']}{busy}")


def _row(worker: dict[str, Any]) -> tuple[Any, ...]:
    running = worker["running"]
    return (
        worker["queue"],
        worker["state"],
        worker["host"],
        None if worker["age_s"] is None else _duration(worker["age_s"]),
        ", ".join(worker["warm_models"]) or None,
        running and f"chunk {running['chunk_id']} of {running['job_id']} for {_duration(running['running_s'])}",
        worker["n_waiting"],
    )


def _duration(seconds: float) -> str:
    """Two digits of a time: ``42 s``, ``17 min``, ``5 h``, ``3 d``."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
