"""List what was told, or is still to be told, by webhook."""

from __future__ import annotations

from app.db.repositories.webhook_deliveries import DeliveryFilters, WebhookDeliveries
from app.domain.pages import Page
from app.domain.webhooks import Delivery
from app.wiring import Wiring


def list_webhook_deliveries(
    *, wiring: Wiring, tenant_id: str, limit: int, after: str | None, filters: DeliveryFilters
) -> Page[Delivery]:
    """A tenant's deliveries newest first, behind the delivery ``after``.

    Raises:
        NotFound: there is no delivery ``after``.
    """
    with wiring.database.begin() as connection:
        return WebhookDeliveries(connection).list(tenant_id, limit=limit, after=after, filters=filters)
