"""Make an API key for a tenant."""

from __future__ import annotations

from app.db.repositories.api_keys import ApiKeys
from app.db.repositories.tenants import Tenants
from app.domain.api_keys import IssuedKey, hash_key, new_key
from app.services.answer_once import Once
from app.wiring import Wiring


def create_api_key(*, wiring: Wiring, tenant: str, name: str = "", once: Once[IssuedKey] | None = None) -> IssuedKey:
    """Make a key for the tenant of that name, and the tenant where it is new. The key can be read only now."""
    made = new_key()
    key_hash = hash_key(made.text, pepper=wiring.settings.key_pepper)
    issued = IssuedKey(key=made.text, key_id=made.id, tenant=tenant)
    with wiring.database.begin() as connection:
        tenant_id = Tenants(connection).id_of(tenant)
        ApiKeys(connection).add(key_id=made.id, tenant_id=tenant_id, key_hash=key_hash, name=name)
        if once is not None:
            once.keep(connection, issued)
    return issued
