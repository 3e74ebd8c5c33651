"""Refuse a receiver of webhooks that may not be reached, when it is named; it is judged again for every connection."""

from __future__ import annotations

from app.domain.jobs import JobWebhook
from app.domain.receivers import receiver_of
from app.errors import ReceiverRefused, TooManyAtOnce
from app.webhooks.resolver import NameNotResolved, TooManyLookUps
from app.wiring import Wiring

LOOK_UP_S = 3.0
RETRY_S = 5.0


def check_receiver(wiring: Wiring, tenant_id: str, url: str, *, param: str = "url") -> None:
    """Refuse an address to which nothing would be sent. A name that does not resolve now may do so later.

    Raises:
        ReceiverRefused: ``param`` names the field.
        TooManyAtOnce: as many names of this tenant are being looked up as may be.
    """
    sender = wiring.webhook_sender
    try:
        receiver = receiver_of(url)
        try:
            addresses = sender.resolver.addresses(receiver.host, tenant_id=tenant_id, timeout_s=LOOK_UP_S)
        except NameNotResolved:
            sender.policy.check_unresolved(receiver)
        else:
            sender.policy.check(receiver, addresses)
    except TooManyLookUps as error:
        message = "Too many names of webhook receivers of yours are being looked up; come back when they are found."
        raise TooManyAtOnce(message, param=param, retry_after_s=RETRY_S) from error
    except ReceiverRefused as error:
        raise ReceiverRefused(error.message, param=param) from error


def check_job_webhook(
    wiring: Wiring, tenant_id: str, webhook: JobWebhook | None, *, param: str = "webhook.url"
) -> None:
    """As ``check_receiver``, for the receiver that a job names.

    Raises:
        ReceiverRefused, TooManyAtOnce: ``param`` names the field.
    """
    if webhook is not None:
        check_receiver(wiring, tenant_id, webhook.url, param=param)
