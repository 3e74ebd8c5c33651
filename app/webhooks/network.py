"""Connections that go only where webhooks may go, and that end in time however slowly the other side speaks."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from app.domain.receivers import Receiver, ReceiverPolicy
from app.webhooks.resolver import Resolver


class Deadline:
    """A moment on the monotonic clock by which all is to be over."""

    def __init__(self, timeout_s: float) -> None:
        self._at = time.monotonic() + timeout_s

    def left_s(self, over: type[Exception]) -> float:
        """What is left of it.

        Raises:
            over: nothing is.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise over("the receiver took too long")
        return left


class CheckedNetwork(httpcore.NetworkBackend):
    """Looks a receiver's name up once, judges every address, and connects to one of those very addresses.

    TLS and the ``Host`` header go by the name; httpcore takes both from the request.
    """

    def __init__(
        self, receiver: Receiver, policy: ReceiverPolicy, resolver: Resolver, deadline: Deadline, *, tenant_id: str
    ) -> None:
        self._receiver = receiver
        self._tenant_id = tenant_id
        self._policy = policy
        self._resolver = resolver
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers.

        Raises:
            ReceiverRefused: one of the addresses may not be reached; nothing was connected to.
            TooManyLookUps: nobody was looked for.
            NameNotResolved, httpcore.ConnectError, httpcore.ConnectTimeout: nobody is there.
        """
        del host, port, timeout
        left_s = self._deadline.left_s(httpcore.ConnectTimeout)
        addresses = self._resolver.addresses(self._receiver.host, tenant_id=self._tenant_id, timeout_s=left_s)
        self._policy.check(self._receiver, addresses)
        failure: Exception = httpcore.ConnectError("there is no address")
        for address in addresses:
            try:
                stream = self._plain.connect_tcp(
                    address,
                    self._receiver.port,
                    timeout=self._deadline.left_s(httpcore.ConnectTimeout),
                    local_address=local_address,
                    socket_options=socket_options or [],
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failure


class _TimedStream(httpcore.NetworkStream):
    """A connection every step of which has what is left of the whole time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, self._deadline.left_s(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, self._deadline.left_s(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        del timeout
        left_s = self._deadline.left_s(httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
