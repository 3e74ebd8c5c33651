"""Register a receiver of webhooks."""

from __future__ import annotations

from collections.abc import Sequence

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.domain.ids import new_id
from app.domain.webhooks import EndpointWithSecret, new_secret, secret_hint
from app.errors import InvalidRequest
from app.services.answer_once import Once
from app.services.check_receiver import check_receiver
from app.services.webhook_secrets import seal_secret
from app.wiring import Wiring

MOST_ENDPOINTS = 50


def create_webhook_endpoint(
    *,
    wiring: Wiring,
    tenant_id: str,
    name: str,
    url: str,
    event_types: Sequence[str],
    once: Once[EndpointWithSecret] | None = None,
) -> EndpointWithSecret:
    """Register an endpoint; its secret is in the answer and can be read nowhere later.

    Raises:
        ReceiverRefused: nothing may be sent there.
        TooManyAtOnce: as many names of this tenant are being looked up as may be.
        InvalidRequest: the tenant has as many endpoints as it may.
    """
    check_receiver(wiring, tenant_id, url)
    endpoint_id, secret = new_id("whe_"), new_secret()
    with wiring.database.begin() as connection:
        endpoints = WebhookEndpoints(connection)
        if endpoints.count(tenant_id) >= MOST_ENDPOINTS:
            raise InvalidRequest(f"There are {MOST_ENDPOINTS} webhook endpoints, which is the most; delete one.")
        endpoint = endpoints.add(
            tenant_id,
            id=endpoint_id,
            name=name,
            url=url,
            event_types=list(event_types),
            sealed_secret=seal_secret(wiring.settings, endpoint_id, secret),
            secret_hint=secret_hint(secret),
        )
        created = EndpointWithSecret(endpoint, secret)
        if once is not None:
            once.keep(connection, created)
        return created
