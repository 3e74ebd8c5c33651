"""Delete a receiver of webhooks."""

from __future__ import annotations

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.wiring import Wiring


def delete_webhook_endpoint(*, wiring: Wiring, tenant_id: str, endpoint_id: str) -> None:
    """Delete an endpoint; what it was still to be told is dropped.

    Raises:
        NotFound: no such endpoint, or another tenant's.
    """
    with wiring.database.begin() as connection:
        WebhookEndpoints(connection).delete(tenant_id, endpoint_id)
