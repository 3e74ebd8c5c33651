"""How many threads of the API one tenant may hold at once with requests that wait for something slow.

A request that waits for a stranger's server, or for a model, holds a thread of its process for as long. Whoever sends
many of these must not take all of them: above its share a tenant is refused at once and comes back later. The count is
of this process alone, as its threads are, so it costs nothing and is right when Redis is away.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from app.api import context
from app.errors import TooManyAtOnce

RETRY_S = 5.0

RECEIVER = "test webhooks"
"""The kind that waits for a tenant's receiver."""
MODEL = "synchronous requests"
"""The kind that waits for a model."""
_SHARES = {RECEIVER: 4, MODEL: 2}
"""One tenant may hold one thread in so many with requests of one kind."""


class HeldSlots:
    """The slots of one process, by tenant and kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_held: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def take(self, tenant_id: str, kind: str, *, most: int) -> Iterator[None]:
        """Hold a slot for as long as the block runs; never waits for one.

        Raises:
            TooManyAtOnce: the tenant holds ``most`` already.
        """
        held = (tenant_id, kind)
        with self._lock:
            if self._n_held[held] >= most:
                message = f"{most} {kind} of yours are being answered, which is the most at once; send fewer at a time."
                raise TooManyAtOnce(message, retry_after_s=RETRY_S)
            self._n_held[held] += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_held -= Counter([held])  # and forgets who holds none


_SLOTS = HeldSlots()


def take(tenant_id: str, kind: str) -> AbstractContextManager[None]:
    """Hold one of this process's slots while a view waits.

    Args:
        kind: what is counted apart from the rest, as the message names it: a plural.

    Raises:
        TooManyAtOnce: when it is entered; the tenant holds its share.
    """
    most = max(1, context.wiring().settings.api_threads // _SHARES[kind])
    return _SLOTS.take(tenant_id, kind, most=most)
