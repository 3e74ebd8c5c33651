"""List a tenant's receivers of webhooks."""

from __future__ import annotations

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.domain.pages import Page
from app.domain.webhooks import WebhookEndpoint
from app.wiring import Wiring


def list_webhook_endpoints(*, wiring: Wiring, tenant_id: str, limit: int, after: str | None) -> Page[WebhookEndpoint]:
    """Endpoints newest first, behind the endpoint ``after``.

    Raises:
        NotFound: there is no endpoint ``after``.
    """
    with wiring.database.begin() as connection:
        return WebhookEndpoints(connection).list(tenant_id, limit=limit, after=after)
