"""Revoke an API key."""

from __future__ import annotations

from app.db.repositories.api_keys import ApiKeys
from app.domain.api_keys import is_key_id
from app.errors import NotFound
from app.wiring import Wiring


def revoke_api_key(*, wiring: Wiring, key_id: str) -> None:
    """Make a key useless; API processes that have just seen it let go of it within seconds.

    Raises:
        NotFound: no such key.
    """
    if not is_key_id(key_id):
        raise NotFound(f"there is no key with the id {key_id[:80]!r}")
    with wiring.database.begin() as connection:
        ApiKeys(connection).revoke(key_id)
