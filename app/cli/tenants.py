"""``nightshift tenants``: quotas, with the operator's key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import click

from app.cli.client import ApiClient, with_client
from app.cli.output import out, print_json, print_table, with_json
from app.cli.quantities import DURATION, NUMBER, SIZE, duration_text, size_text

ROUTE = "/v1/admin/tenants"
PAGE = 100
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a tenant, as the command line names, reads and shows it."""

    option: str
    field: str
    kind: click.ParamType[Any]
    help: str
    text: Callable[[Any], str] = lambda value: f"{value:,}"
    use: str | None = None
    """Field of what the tenant uses of it."""


LIMITS = (
    Limit("weight", "weight", NUMBER, "Share among the tenants who have work.", str),
    Limit("max-jobs", "max_running_jobs", click.INT, "Jobs that may run at once.", use="running_jobs"),
    Limit("max-chunks", "max_chunks", click.INT, "Chunks with workers at once.", use="live_chunks"),
    Limit("max-tokens", "max_enqueued_tokens", click.INT, "Tokens admitted and unfinished.", use="enqueued_tokens"),
    Limit("rpm", "requests_per_minute", click.INT, "Submits and synchronous requests in a minute."),
    Limit("max-storage", "max_storage_bytes", SIZE, "What may be kept: 500GB.", size_text, use="stored_bytes"),
    Limit("retention", "retention_s", DURATION, "Longest life of files and results: 30d.", duration_text),
    Limit("budget", "budget", NUMBER, "Money that may be spent."),
)


@click.group()
def tenants() -> None:
    """Show and set what tenants may use; needs NIGHTSHIFT_ADMIN_KEY."""


@tenants.command(name="list")
@with_json
@with_client
def list_(client: ApiClient, *, as_json: bool) -> None:
    """List tenants: what each uses, of what it may."""
    found = list(_all(client.as_admin()))
    if as_json:
        print_json({"object": "list", "data": found})
        return
    rows = ((tenant["name"], *(_of_limit(tenant, limit) for limit in LIMITS)) for tenant in found)
    print_table(["tenant", *(limit.option for limit in LIMITS)], rows, empty="no tenants yet; `nightshift keys create`")


@tenants.command()
@click.argument("name")
@with_json
@with_client
def show(client: ApiClient, *, name: str, as_json: bool) -> None:
    """Show one tenant."""
    _print(client.as_admin().get(_path(name)), as_json=as_json)


def _limit_options(command: Command) -> Command:
    for limit in reversed(LIMITS):
        command = click.option(f"--{limit.option}", limit.field, type=limit.kind, help=limit.help)(command)
    return command


@tenants.command(name="set")
@click.argument("name")
@_limit_options
@click.option(
    "--reset",
    "resets",
    multiple=True,
    type=click.Choice([limit.option for limit in LIMITS]),
    help="Take this limit back to the installation's default; may be given several times.",
)
@with_json
@with_client
def set_(client: ApiClient, /, *, name: str, resets: tuple[str, ...], as_json: bool, **fields: Any) -> None:
    """Set limits of a tenant; they hold at once."""
    changes = {field: value for field, value in fields.items() if value is not None}
    reset = {limit.field: None for limit in LIMITS if limit.option in resets}
    if not changes and not reset:
        raise click.UsageError("name a limit to set, or one to --reset")
    if both := changes.keys() & reset.keys():
        raise click.UsageError(f"{', '.join(sorted(both))}: either set it or --reset it")
    _print(client.as_admin().patch(_path(name), {**changes, **reset}), as_json=as_json)


def _all(client: ApiClient) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = client.get(ROUTE, limit=PAGE, after=after)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["data"][-1]["name"]


def _path(name: str) -> str:
    return f"{ROUTE}/{quote(name, safe='')}"


def _print(tenant: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(tenant)
        return
    out().print(f"{tenant['name']}  {tenant['id']}", highlight=False)
    rows = ((limit.option, *_use_and_quota(tenant, limit), _origin(tenant, limit)) for limit in LIMITS)
    print_table(["limit", "used", "of", ""], rows, empty="")


def _use_and_quota(tenant: dict[str, Any], limit: Limit) -> tuple[str | None, str]:
    used, quota = tenant["use"].get(limit.use), tenant["quota"][limit.field]
    return None if used is None else limit.text(used), "no limit" if quota is None else limit.text(quota)


def _origin(tenant: dict[str, Any], limit: Limit) -> str:
    return "the default" if tenant["limits"][limit.field] is None else "set"


def _of_limit(tenant: dict[str, Any], limit: Limit) -> str:
    used, quota = _use_and_quota(tenant, limit)
    return quota if used is None else f"{used} of {quota}"
