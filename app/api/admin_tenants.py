"""``/v1/admin/tenants``: what each tenant may use, and what it uses."""

from __future__ import annotations

from typing import Any

from app.api import context
from app.api.blueprints import Access, ApiBlueprint
from app.domain.pages import Page
from app.domain.tenants import TenantDetails
from app.errors import NotFound
from app.schemas.tenants import TenantListQuerySchema, TenantListSchema, TenantPatchSchema, TenantSchema
from app.services.change_tenant import change_tenant
from app.services.list_tenants import list_tenants
from app.services.show_tenant import show_tenant

blueprint = ApiBlueprint(
    "admin tenants", url_prefix="/v1/admin/tenants", access=Access.ADMIN, description="Tenants and their quotas"
)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(TenantListQuerySchema, location="query")
@blueprint.response(200, TenantListSchema)
def get_tenants(query: dict[str, Any]) -> Page[TenantDetails]:
    """List tenants with their quotas and what they use."""
    return list_tenants(wiring=context.wiring(), **query)


@blueprint.route("/<tenant>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, TenantSchema)
def get_tenant(tenant: str) -> TenantDetails:
    """Show a tenant."""
    return show_tenant(wiring=context.wiring(), name=tenant)


@blueprint.route("/<tenant>", methods=["PATCH"])
@blueprint.refuses(NotFound)
@blueprint.arguments(TenantPatchSchema, example={"weight": 2, "max_chunks": None})
@blueprint.response(200, TenantSchema)
def patch_tenant(changes: dict[str, Any], tenant: str) -> TenantDetails:
    """Change what a tenant may use.

    Limits that are absent stay; null takes one back to the installation's default. They hold at once.
    """
    return change_tenant(wiring=context.wiring(), name=tenant, changes=changes)
