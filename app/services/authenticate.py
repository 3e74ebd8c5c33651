"""Find out who sends a request."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass

from app.db.repositories.api_keys import ApiKeys
from app.domain.api_keys import Principal, key_id_of, matches
from app.errors import NotAuthenticated
from app.wiring import Wiring

REMEMBERED_S = 3.0
"""How long a process trusts a key without asking the database again: the longest a revoked key may live on."""
_MAX_REMEMBERED = 10_000


def authenticate(*, wiring: Wiring, seen: SeenKeys, key: str) -> Principal:
    """The tenant behind a key.

    Raises:
        NotAuthenticated: the key is malformed, unknown, revoked or expired; the message does not say which.
    """
    known = seen.get(key)
    if known is not None:
        return known
    principal = _check(wiring, key)
    seen.remember(key, principal)
    return principal


def _check(wiring: Wiring, key: str) -> Principal:
    key_id = key_id_of(key)
    if key_id is None:
        raise _unknown()
    with wiring.database.begin() as connection:
        keys = ApiKeys(connection)
        found = keys.usable(key_id)
        if found is None or not matches(key, found.hash, pepper=wiring.settings.key_pepper):
            raise _unknown()
        keys.note_use(key_id)
    return Principal(tenant_id=found.tenant_id, key_id=key_id)


def _unknown() -> NotAuthenticated:
    return NotAuthenticated("the API key is unknown, revoked or expired; send a valid one")


@dataclass(frozen=True, slots=True)
class _Seen:
    principal: Principal
    until: float


class SeenKeys:
    """Keys that this process checked a moment ago, by their SHA-256; safe between threads."""

    def __init__(self) -> None:
        self._seen: dict[bytes, _Seen] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Principal | None:
        """Who the key belongs to, where that was checked within ``REMEMBERED_S``."""
        found = self._seen.get(_digest(key))
        return found.principal if found is not None and found.until > time.monotonic() else None

    def remember(self, key: str, principal: Principal) -> None:
        """Trust a key that was just checked."""
        with self._lock:
            if len(self._seen) >= _MAX_REMEMBERED:
                self._seen.clear()
            self._seen[_digest(key)] = _Seen(principal, time.monotonic() + REMEMBERED_S)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
