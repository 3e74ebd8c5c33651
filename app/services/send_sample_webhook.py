"""Send a sample event to a receiver while its owner waits."""

from __future__ import annotations

from sqlalchemy import func, select

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.domain.ids import new_id
from app.domain.webhooks import SampleAnswer, payload, sample_data, signed_headers
from app.errors import ReceiverUnreachable
from app.services.webhook_secrets import endpoint_secrets
from app.wiring import Wiring


def send_sample_webhook(*, wiring: Wiring, tenant_id: str, endpoint_id: str, event_type: str) -> SampleAnswer:
    """Send once, signed as a real one; whether the endpoint asked for such events does not matter.

    Raises:
        NotFound: no such endpoint, or another tenant's.
        ReceiverUnreachable: it gave no answer.
    """
    with wiring.database.begin() as connection:
        endpoints = WebhookEndpoints(connection)
        endpoint = endpoints.get(tenant_id, endpoint_id)
        sealed = endpoints.secrets_of(tenant_id, endpoint_id).sealed
        now = connection.execute(select(func.now())).scalar_one()
    event_id = new_id("evt_")
    body = payload(event_id=event_id, event_type=event_type, data=sample_data(event_type), now=now)
    try:
        secrets = endpoint_secrets(wiring.settings, endpoint_id, sealed)
    except ValueError as error:
        raise ReceiverUnreachable("The secret cannot be opened any more: rotate it.") from error
    headers = signed_headers(event_id=event_id, body=body, now=now, signing_secrets=secrets)
    attempt = wiring.webhook_sender.send(endpoint.url, tenant_id=tenant_id, headers=headers, body=body)
    if attempt.status is None:
        raise ReceiverUnreachable(f"The receiver gave no answer: {attempt.error}.")
    return SampleAnswer(endpoint_id, event_type, attempt.status)
