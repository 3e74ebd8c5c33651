"""What webhooks say, and that receivers can tell who says it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from openai.types.webhooks import BatchCompletedWebhookEvent
from standardwebhooks import Webhook

from app.domain.webhooks import (
    BACKOFF_S,
    BATCH_EVENTS,
    EVENT_TYPES,
    backoff_s,
    new_secret,
    payload,
    sample_data,
    secret_for_url,
    secret_hint,
    signed_headers,
)

CLIENT = OpenAI(api_key="none", base_url="http://127.0.0.1:1")


def _signed(*secrets: str, event_type: str = "batch.completed") -> tuple[str, dict[str, str]]:
    now = datetime.now(UTC)
    body = payload(event_id="evt_1", event_type=event_type, data=sample_data(event_type), now=now)
    return body, signed_headers(event_id="evt_1", body=body, now=now, signing_secrets=secrets)


def test_the_openai_sdk_unwraps_what_we_sign() -> None:
    secret = new_secret()
    body, headers = _signed(secret)
    event = CLIENT.webhooks.unwrap(body, headers, secret=secret)
    assert isinstance(event, BatchCompletedWebhookEvent)
    assert (event.id, event.data.id[:6]) == ("evt_1", "batch_")


def test_so_does_the_library_of_standard_webhooks() -> None:
    secret = new_secret()
    body, headers = _signed(secret, event_type="job.failed")
    assert Webhook(secret).verify(body, headers)["type"] == "job.failed"


def test_two_secrets_give_two_signatures_and_either_is_enough() -> None:
    old, new = new_secret(), new_secret()
    body, headers = _signed(new, old)
    for secret in (old, new):
        CLIENT.webhooks.verify_signature(body, headers, secret=secret)


@pytest.mark.parametrize("change", [{"webhook-id": "evt_2"}, {"webhook-timestamp": "1"}, {}])
def test_a_changed_body_id_or_time_is_noticed(change: dict[str, str]) -> None:
    secret = new_secret()
    body, headers = _signed(secret)
    body = body if change else body.replace("batch_0", "batch_1")
    with pytest.raises(InvalidWebhookSignatureError):
        CLIENT.webhooks.verify_signature(body, {**headers, **change}, secret=secret)


def test_the_secret_of_an_address_is_the_tenants_own() -> None:
    secret = secret_for_url("tenant_a", "https://a/", pepper="pepper")
    assert secret == secret_for_url("tenant_a", "https://a/", pepper="pepper")
    others: list[dict[str, Any]] = [{"pepper": "other"}, {"url": "https://b/"}, {"tenant_id": "tenant_b"}]
    for other in others:
        assert secret != secret_for_url(**{"tenant_id": "tenant_a", "url": "https://a/", "pepper": "pepper", **other})


def test_a_hint_shows_only_the_last_characters() -> None:
    secret = new_secret()
    hint = secret_hint(secret)
    assert hint.startswith("whsec_...")
    assert secret.rstrip("=").endswith(hint.removeprefix("whsec_..."))
    assert len(hint) < len(secret) / 2


def test_every_event_has_a_sample() -> None:
    for event_type in EVENT_TYPES:
        assert sample_data(event_type)["id"].startswith("batch_" if event_type in BATCH_EVENTS else "job_")


def test_pauses_grow_and_a_day_holds_about_a_dozen_attempts() -> None:
    assert list(BACKOFF_S) == sorted(BACKOFF_S)
    pauses = [backoff_s(n) for n in range(1, 13)]
    assert sum(pauses[:10]) < 86_400 < sum(pauses)
