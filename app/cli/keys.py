"""``nightshift keys``: API keys, with the operator's key."""

from __future__ import annotations

import click

from app.cli.client import ApiClient, with_client
from app.cli.output import err, out, print_json, print_table, with_json

ROUTE = "/v1/admin/keys"


@click.group()
def keys() -> None:
    """Create, list and revoke API keys; needs NIGHTSHIFT_ADMIN_KEY."""


@keys.command()
@click.option("--tenant", required=True, help="Whose key; the tenant is created where it is new.")
@click.option("--name", default="", help="What it is for.")
@with_json
@with_client
def create(client: ApiClient, *, tenant: str, name: str, as_json: bool) -> None:
    """Make a key. It is shown this once."""
    made = client.as_admin().post(ROUTE, {"tenant": tenant, "name": name})
    if as_json:
        print_json({field: made[field] for field in ("key", "key_id", "tenant")})
        return
    out().print(made["key"], highlight=False)
    err().print(f"key {made['key_id']} of tenant {made['tenant']}: keep it now, it cannot be shown again")


@keys.command(name="list")
@click.option("--tenant", help="Only this tenant's.")
@with_json
@with_client
def list_(client: ApiClient, *, tenant: str | None, as_json: bool) -> None:
    """List keys, never their secret."""
    page = client.as_admin().get(ROUTE, tenant=tenant)
    if as_json:
        print_json(page)
        return
    fields = ("key_id", "tenant", "name", "created_at", "last_used_at", "revoked_at")
    rows = (tuple(key.get(field) for field in fields) for key in page["data"])
    print_table(["key", "tenant", "name", "created", "last used", "revoked"], rows, empty="no keys yet")


@keys.command()
@click.argument("key_id")
@with_json
@with_client
def revoke(client: ApiClient, *, key_id: str, as_json: bool) -> None:
    """Revoke a key; requests with it are 401 from then on."""
    answer = client.as_admin().delete(f"{ROUTE}/{key_id}")
    if as_json:
        print_json(answer or {"key_id": key_id, "revoked": True})
    else:
        out().print(f"revoked {key_id}")
