"""List API keys without their secrets."""

from __future__ import annotations

from app.db.repositories.api_keys import ApiKeys
from app.domain.api_keys import ApiKey
from app.wiring import Wiring


def list_api_keys(*, wiring: Wiring, tenant: str | None = None) -> list[ApiKey]:
    """Every key, revoked ones too, newest first; of one tenant where its name is given."""
    with wiring.database.begin() as connection:
        return ApiKeys(connection).list(tenant=tenant)
