"""Show a receiver of webhooks."""

from __future__ import annotations

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.domain.webhooks import WebhookEndpoint
from app.wiring import Wiring


def show_webhook_endpoint(*, wiring: Wiring, tenant_id: str, endpoint_id: str) -> WebhookEndpoint:
    """One endpoint of a tenant.

    Raises:
        NotFound: no such endpoint, or another tenant's.
    """
    with wiring.database.begin() as connection:
        return WebhookEndpoints(connection).get(tenant_id, endpoint_id)
