"""API keys: ``ns_<key id>_<secret>``, shown once, kept only as a keyed hash.

The secret has 256 random bits, so one HMAC is enough and a slow password hash would only cost latency. The ``ns_``
prefix lets secret scanners find a leaked key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

_KEY = re.compile(r"ns_([0-9a-f]{16})_[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One row of ``api_keys``, without its hash."""

    id: str
    tenant_id: str
    tenant: str
    """The tenant's name."""
    name: str
    created_at: datetime
    last_used_at: datetime | None
    """To the minute."""
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A key in the one moment in which it can be seen."""

    key: str
    key_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request."""

    tenant_id: str
    key_id: str


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made and is not stored yet."""

    id: str
    text: str


def new_key() -> NewKey:
    """Make a key."""
    key_id = secrets.token_hex(8)
    return NewKey(id=key_id, text=f"ns_{key_id}_{secrets.token_hex(32)}")


def key_id_of(key: str) -> str | None:
    """The id inside a key; None where the text cannot be a key."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def is_key_id(text: str) -> bool:
    """Whether a key can have this id."""
    return _KEY_ID.fullmatch(text) is not None


def hash_key(key: str, *, pepper: str) -> bytes:
    """HMAC-SHA256 of the whole key under the server's pepper: 32 bytes."""
    return hmac.digest(pepper.encode(), key.encode(), hashlib.sha256)


def matches(key: str, stored_hash: bytes, *, pepper: str) -> bool:
    """Whether ``key`` is the one that was stored, in constant time."""
    return hmac.compare_digest(hash_key(key, pepper=pepper), stored_hash)
