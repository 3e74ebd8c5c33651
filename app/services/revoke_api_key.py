"""Revoke an API key."""

from __future__ import annotations

from app.db.repositories.api_keys import ApiKeys
from app.wiring import Wiring


def revoke_api_key(*, wiring: Wiring, key_id: str) -> None:
    """Make a key useless; API processes that have just seen it let go of it within seconds.

    Raises:
        NotFound: no such key.
    """
    with wiring.database.begin() as connection:
        ApiKeys(connection).revoke(key_id)
