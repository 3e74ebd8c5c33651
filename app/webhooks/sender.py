"""Sends one webhook once, within a time, to an address that may be reached. Redirects are not followed."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Self

import httpcore

from app.domain.receivers import ReceiverPolicy, receiver_of
from app.domain.webhooks import Attempt
from app.errors import ReceiverRefused
from app.webhooks.network import CheckedNetwork, Deadline
from app.webhooks.resolver import NameNotResolved, Resolver, SystemResolver, TooManyLookUps
from config.settings import Settings

MOST_ANSWER_BYTES = 16 * 1024
"""What is read of an answer, and thrown away, so that the receiver is not cut off in the middle of a sentence."""

_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (ReceiverRefused, "receiver_refused"),
    (NameNotResolved, "name_not_resolved"),
    (TooManyLookUps, "too_many_look_ups"),
    (httpcore.TimeoutException, "timeout"),
    (ssl.SSLError, "tls_failed"),
    (httpcore.ConnectError, "connection_failed"),
    (httpcore.NetworkError, "connection_broken"),
    (httpcore.ProtocolError, "not_http"),
)


class WebhookSender:
    """Sends webhooks from this process."""

    def __init__(
        self,
        policy: ReceiverPolicy,
        *,
        timeout_s: float,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is contacted yet.

        Args:
            timeout_s: for all of it: look-up, connection, TLS, request and answer.
            ssl_context: other roots than the usual ones.
        """
        self.policy = policy
        self.resolver: Resolver = resolver or SystemResolver()
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context or httpcore.default_ssl_context()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make the sender of an installation."""
        policy = ReceiverPolicy.of(ports=settings.webhook_ports, receivers=settings.webhook_receivers)
        return cls(policy, timeout_s=settings.webhook_timeout_s)

    def send(self, url: str, *, tenant_id: str, headers: Mapping[str, str], body: str) -> Attempt:
        """Send it to a receiver of a tenant; whatever goes wrong is told in the answer."""
        began = time.monotonic()
        status, error = None, None
        try:
            status = self._status_of(url, tenant_id, headers, body.encode())
        except tuple(kind for kind, _ in _FAILURES) as failure:
            error = _code_of(failure)
        return Attempt(status, error, round(time.monotonic() - began, 3))

    def _status_of(self, url: str, tenant_id: str, headers: Mapping[str, str], body: bytes) -> int:
        receiver = receiver_of(url)
        deadline = Deadline(self._timeout_s)
        network = CheckedNetwork(receiver, self.policy, self.resolver, deadline, tenant_id=tenant_id)
        sent = {
            "Host": receiver.authority,
            "Content-Type": "application/json",
            "User-Agent": "Nightshift-Webhooks",
            "Connection": "close",
            **headers,
        }
        address = httpcore.URL(
            scheme=receiver.scheme.encode(),
            host=receiver.host.encode(),
            port=receiver.port,
            target=receiver.target.encode(),
        )
        with (
            httpcore.ConnectionPool(ssl_context=self._ssl_context, network_backend=network, max_connections=1) as pool,
            pool.stream("POST", address, headers=list(sent.items()), content=body) as response,
        ):
            _read_some(response)
            return response.status


def _read_some(response: httpcore.Response) -> None:
    """Read to the end of a short answer; what is long or slow is cut, and its status counts all the same."""
    n_bytes = 0
    try:
        for block in response.iter_stream():
            n_bytes += len(block)
            if n_bytes > MOST_ANSWER_BYTES:
                return
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        return


def _code_of(failure: Exception) -> str:
    """The constant code of a failure; httpcore hands on what TLS says as the cause of its own error."""
    reasons = (failure, failure.__cause__, failure.__context__)
    if any(isinstance(reason, ssl.SSLError) for reason in reasons):
        return "tls_failed"
    return next(code for kind, code in _FAILURES if isinstance(failure, kind))
