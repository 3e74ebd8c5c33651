"""Change a receiver of webhooks."""

from __future__ import annotations

from typing import Any

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.domain.webhooks import WebhookEndpoint
from app.services.check_receiver import check_receiver
from app.wiring import Wiring


def change_webhook_endpoint(
    *, wiring: Wiring, tenant_id: str, endpoint_id: str, changes: dict[str, Any]
) -> WebhookEndpoint:
    """Change name, address or event types; what is absent stays, and a change of nothing changes no time.

    Raises:
        NotFound: no such endpoint, or another tenant's.
        ReceiverRefused: nothing may be sent there.
        TooManyAtOnce: as many names of this tenant are being looked up as may be.
    """
    if "url" in changes:
        check_receiver(wiring, tenant_id, changes["url"])
    with wiring.database.begin() as connection:
        endpoints = WebhookEndpoints(connection)
        now = endpoints.get(tenant_id, endpoint_id)
        new = {name: value for name, value in changes.items() if value != getattr(now, name)}
        return endpoints.update(tenant_id, endpoint_id, **new) if new else now
