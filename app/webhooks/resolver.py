"""Looks names up, within a time: the system's own resolver has none that a caller could set.

A look-up that has begun cannot be stopped, only left alone: it holds its thread until the name servers have answered or
were given up. The tenant chooses the name, and with it how long that takes, so one tenant may hold few of the threads.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

LOOK_UPS_AT_ONCE = 64
LOOK_UPS_OF_TENANT = 4


class NameNotResolved(Exception):
    """The name has no address, or none was found in time."""


class TooManyLookUps(Exception):
    """The tenant has as many look-ups under way as it may; nothing was looked up."""


class Resolver(Protocol):
    """Finds the addresses of a host."""

    def addresses(self, host: str, *, tenant_id: str, timeout_s: float) -> list[str]:
        """All addresses of a host, at least one; an address in whatever notation is turned into the usual one.

        Args:
            tenant_id: who chose the host.

        Raises:
            NameNotResolved: there is none.
            TooManyLookUps: come back later.
        """
        ...


class SystemResolver:
    """Asks as every other program of this machine does."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="resolver")
        self._lock = threading.Lock()
        self._n_under_way: Counter[str] = Counter()

    def addresses(self, host: str, *, tenant_id: str, timeout_s: float) -> list[str]:
        """See ``Resolver``."""
        look_up = self._begin(host, tenant_id)
        try:
            found = look_up.result(timeout_s)
        except (TimeoutError, OSError, UnicodeError) as error:
            look_up.cancel()  # where it has not begun
            raise NameNotResolved(f"{host[:80]!r} has no address: {type(error).__name__}") from error
        if not found:
            raise NameNotResolved(f"{host[:80]!r} has no address")
        return found

    def _begin(self, host: str, tenant_id: str) -> Future[list[str]]:
        with self._lock:
            if self._n_under_way[tenant_id] >= LOOK_UPS_OF_TENANT:
                raise TooManyLookUps(f"{LOOK_UPS_OF_TENANT} names are being looked up")
            self._n_under_way[tenant_id] += 1

        def ended(_look_up: Future[list[str]]) -> None:
            with self._lock:
                self._n_under_way -= Counter([tenant_id])  # and forgets who has none

        look_up = self._threads.submit(_look_up, host)
        look_up.add_done_callback(ended)
        return look_up


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))
