"""``/v1/admin/keys``: who may use this server."""

from __future__ import annotations

from typing import Any

from app.api import context
from app.api.blueprints import Access, ApiBlueprint
from app.domain.api_keys import IssuedKey
from app.errors import NotFound
from app.schemas.keys import (
    IssuedKeySchema,
    KeyListQuerySchema,
    KeyListSchema,
    KeyRequestSchema,
    KeyRevokedSchema,
)
from app.services.answer_once import Once
from app.services.create_api_key import create_api_key
from app.services.list_api_keys import list_api_keys
from app.services.revoke_api_key import revoke_api_key

blueprint = ApiBlueprint(
    "admin keys", url_prefix="/v1/admin/keys", access=Access.ADMIN, description="API keys of all tenants"
)


@blueprint.route("", methods=["POST"])
@blueprint.arguments(KeyRequestSchema)
@blueprint.creates(201, IssuedKeySchema)
def post_key(body: dict[str, Any], *, once: Once[IssuedKey] | None) -> IssuedKey:
    """Make an API key.

    The key is shown in this answer and never again.
    """
    return create_api_key(wiring=context.wiring(), tenant=body["tenant"], name=body["name"], once=once)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(KeyListQuerySchema, location="query")
@blueprint.response(200, KeyListSchema)
def get_keys(query: dict[str, Any]) -> dict[str, Any]:
    """List API keys."""
    return {"data": list_api_keys(wiring=context.wiring(), tenant=query["tenant"])}


@blueprint.route("/<key_id>", methods=["DELETE"])
@blueprint.refuses(NotFound)
@blueprint.response(200, KeyRevokedSchema)
def delete_key(key_id: str) -> dict[str, str]:
    """Revoke an API key.

    A process that has just seen the key may still take it for three seconds.
    """
    revoke_api_key(wiring=context.wiring(), key_id=key_id)
    return {"key_id": key_id}
