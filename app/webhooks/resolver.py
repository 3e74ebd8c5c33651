"""Looks names up, within a time: the system's own resolver has none that a caller could set."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

LOOK_UPS_AT_ONCE = 16


class NameNotResolved(Exception):
    """The name has no address, or none was found in time."""


class Resolver(Protocol):
    """Finds the addresses of a host."""

    def addresses(self, host: str, *, timeout_s: float) -> list[str]:
        """All addresses of a host, at least one; an address in whatever notation is turned into the usual one.

        Raises:
            NameNotResolved: there is none.
        """
        ...


class SystemResolver:
    """Asks as every other program of this machine does."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="resolver")

    def addresses(self, host: str, *, timeout_s: float) -> list[str]:
        """See ``Resolver``."""
        try:
            found = self._threads.submit(_look_up, host).result(timeout_s)
        except (TimeoutError, OSError, UnicodeError) as error:
            raise NameNotResolved(f"{host[:80]!r} has no address: {type(error).__name__}") from error
        if not found:
            raise NameNotResolved(f"{host[:80]!r} has no address")
        return found


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))
