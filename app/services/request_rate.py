"""How many requests a tenant may send in a minute, as one API process knows it."""

from __future__ import annotations

import threading
import time

from app.services.tenant_quotas import tenant_quota
from app.wiring import Wiring

REMEMBERED_S = 1.0
"""How long a process takes a limit for true: the longest that a changed one may have no effect."""
MOST_REMEMBERED = 10_000


class RequestRates:
    """The limits of the tenants that were just seen; safe between threads."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._known: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def per_minute(self, tenant_id: str) -> int:
        """The tenant's limit, read at most ``REMEMBERED_S`` ago.

        Raises:
            DatabaseUnavailable: it is not known and cannot be read.
        """
        limit, until = self._known.get(tenant_id, (0, 0.0))
        if until > time.monotonic():
            return limit
        with self._wiring.database.begin() as connection:
            limit = tenant_quota(connection, self._wiring.settings, tenant_id=tenant_id).requests_per_minute
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[tenant_id] = limit, time.monotonic() + REMEMBERED_S
        return limit
