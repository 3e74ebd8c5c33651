"""Give a receiver of webhooks a new secret."""

from __future__ import annotations

from app.db.repositories.webhook_endpoints import WebhookEndpoints
from app.domain.webhooks import OLD_SECRET_LIFE_S, EndpointWithSecret, new_secret, secret_hint
from app.services.answer_once import Once
from app.services.webhook_secrets import seal_secret
from app.wiring import Wiring


def rotate_webhook_secret(
    *,
    wiring: Wiring,
    tenant_id: str,
    endpoint_id: str,
    keep_old: bool,
    once: Once[EndpointWithSecret] | None = None,
) -> EndpointWithSecret:
    """Sign with a new secret from now on; it is in the answer and can be read nowhere later.

    Args:
        keep_old: whether the secret before signs as well for another day.
    Raises:
        NotFound: no such endpoint, or another tenant's.
    """
    secret = new_secret()
    with wiring.database.begin() as connection:
        endpoint = WebhookEndpoints(connection).rotate(
            tenant_id,
            endpoint_id,
            overlap_s=OLD_SECRET_LIFE_S if keep_old else 0,
            sealed_secret=seal_secret(wiring.settings, endpoint_id, secret),
            secret_hint=secret_hint(secret),
        )
        rotated = EndpointWithSecret(endpoint, secret)
        if once is not None:
            once.keep(connection, rotated)
        return rotated
