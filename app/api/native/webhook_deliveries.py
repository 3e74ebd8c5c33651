"""``/v1/webhook_deliveries``: what was told, or is still to be told, by webhook."""

from __future__ import annotations

from typing import Any

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.api.job_ids import job_id_of
from app.db.repositories.webhook_deliveries import DeliveryFilters
from app.domain.pages import Page
from app.domain.webhooks import Delivery
from app.errors import NotFound
from app.schemas.webhooks import DeliveryListQuerySchema, DeliveryListSchema
from app.services.list_webhook_deliveries import list_webhook_deliveries

blueprint = ApiBlueprint("webhook_deliveries", url_prefix="/v1/webhook_deliveries", description="What was told")


@blueprint.route("", methods=["GET"])
@blueprint.arguments(DeliveryListQuerySchema, location="query")
@blueprint.refuses(NotFound)
@blueprint.response(200, DeliveryListSchema)
def get_deliveries(query: dict[str, Any]) -> Page[Delivery]:
    """List deliveries of webhooks, newest first.

    With what came of every attempt: when, the status or why there was none, and how long it took. What a receiver said
    is not kept.
    """
    job_id = query["job_id"]
    return list_webhook_deliveries(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        limit=query["limit"],
        after=query["after"],
        filters=DeliveryFilters(
            job_id=None if job_id is None else job_id_of(job_id),
            endpoint_id=query["endpoint_id"],
            state=query["state"],
        ),
    )
