"""The secrets that webhooks are signed with: those of endpoints are sealed at rest, a job's own follow from its URL."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.domain.jobs import JobWebhook
from app.domain.sealing import seal, unseal
from app.domain.webhooks import ClaimedDelivery, seal_label, secret_for_url
from config.settings import Settings


def seal_secret(settings: Settings, endpoint_id: str, secret: str) -> bytes:
    """Seal an endpoint's secret for its row."""
    return seal(secret.encode(), secret=settings.key_pepper, label=seal_label(endpoint_id))


def job_webhook_secret(settings: Settings, tenant_id: str, webhook: JobWebhook | None) -> str | None:
    """The secret of the receiver that a job names itself."""
    return None if webhook is None else secret_for_url(tenant_id, webhook.url, pepper=settings.key_pepper)


def signing_secrets(connection: Connection, settings: Settings, delivery: ClaimedDelivery) -> list[str]:
    """Every secret that is valid now, the newest first.

    A receiver that a job names itself and that is registered as well is signed with what it is registered with.

    Raises:
        ValueError: a secret was sealed by a server with another pepper.
    """
    found = WebhookEndpoints(connection).sealed_secrets(delivery)
    if found is None:
        return [secret_for_url(delivery.tenant_id, delivery.url, pepper=settings.key_pepper)]
    return endpoint_secrets(settings, found.endpoint_id, found.sealed)


def endpoint_secrets(settings: Settings, endpoint_id: str, sealed: list[bytes]) -> list[str]:
    """Open the secrets of an endpoint.

    Raises:
        ValueError: one was sealed by a server with another pepper.
    """
    label = seal_label(endpoint_id)
    return [unseal(one, secret=settings.key_pepper, label=label).decode() for one in sealed]
