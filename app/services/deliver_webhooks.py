"""Send what is to be told by webhook. Whatever a receiver does, the job that it is told of is not touched.

One call sends what is due for one receiver, one after another, until that takes nothing more. The dispatcher asks for
the next call as long as something is due.
"""

from __future__ import annotations

import time

import structlog

from app.db.repositories.webhook_deliveries import WebhookDeliveries
from app.domain.webhooks import Attempt, ClaimedDelivery, signed_headers
from app.services.webhook_secrets import signing_secrets
from app.wiring import Wiring

log = structlog.get_logger(__name__)

TURN_S = 10.0
"""Then others have their turn, and a worker that is told to end need not wait for long."""
CLAIM_GRACE_S = 5.0
"""How much longer than sending can take a delivery stays claimed: what a process that died had claimed is sent then."""


def deliver_webhooks(*, wiring: Wiring, delivery_id: str) -> int:
    """Send a delivery if it is due, and then what else is due for its receiver; gives how many were taken.

    Raises:
        DatabaseUnavailable: what was sent and not written down is sent again, under the same id.
    """
    claim_s = wiring.settings.webhook_timeout_s + CLAIM_GRACE_S
    turn_ends_s = time.monotonic() + TURN_S
    n_taken = 0
    with wiring.database.begin() as connection:
        delivery = WebhookDeliveries(connection).claim(delivery_id, claim_s=claim_s)
    while delivery is not None:
        attempt = _send(wiring, delivery)
        with wiring.database.begin() as connection:
            deliveries = WebhookDeliveries(connection)
            if not attempt.was_taken:
                deliveries.record_failed(delivery, attempt, patience_s=wiring.settings.webhook_patience_s)
                return n_taken
            n_taken += 1
            deliveries.record_taken(delivery, attempt)
            has_time = time.monotonic() < turn_ends_s
            delivery = deliveries.claim_next(delivery, claim_s=claim_s) if has_time else None
    return n_taken


def _send(wiring: Wiring, delivery: ClaimedDelivery) -> Attempt:
    try:
        with wiring.database.begin() as connection:
            secrets = signing_secrets(connection, wiring.settings, delivery)
    except ValueError:
        # The pepper was changed, as when all API keys are revoked at once: the tenant rotates the secret.
        attempt = Attempt(None, "secret_unreadable", 0.0)
    else:
        headers = signed_headers(
            event_id=delivery.event_id, body=delivery.payload, now=delivery.claimed_at, signing_secrets=secrets
        )
        attempt = wiring.webhook_sender.send(
            delivery.url, tenant_id=delivery.tenant_id, headers=headers, body=delivery.payload
        )
    log.info(
        "webhook_sent",
        delivery_id=delivery.id,
        event_id=delivery.event_id,
        attempt=delivery.attempt,
        status=attempt.status,
        error=attempt.error,
        duration_s=attempt.duration_s,
    )
    return attempt
