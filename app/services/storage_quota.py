"""Keep a tenant within what it may store."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.repositories.stored_bytes import StoredBytes
from app.errors import StorageQuotaExceeded
from app.services.tenant_quotas import tenant_quota
from config.settings import Settings

NEAR = 64
"""With room for fewer of the same size, those who store take turns; no two pass then where there is room for one."""


def check_storage(
    connection: Connection, settings: Settings, *, tenant_id: str, new_bytes: int = 1, is_counted: bool = False
) -> None:
    """Refuse what a tenant has no room for.

    Near the quota the transactions that were let pass end one after the other; those of much smaller size that come in
    at the same moment may pass it by as little as they bring.

    Args:
        new_bytes: what is to come.
        is_counted: whether this transaction has counted it already.
    Raises:
        StorageQuotaExceeded: with what is used, and what to do.
    """
    limit = tenant_quota(connection, settings, tenant_id=tenant_id).max_storage_bytes
    stored = StoredBytes(connection)
    used = stored.of([tenant_id])[tenant_id]
    if is_counted and used + NEAR * new_bytes > limit:
        stored.take_turns(tenant_id)
        used = stored.of([tenant_id])[tenant_id]
    to_come = 0 if is_counted else new_bytes
    if used + to_come > limit:
        message = (
            f"This tenant stores {used} of {limit} bytes and has no room for this. Delete files that are not needed "
            "(GET /v1/files lists them, DELETE /v1/files/{id} frees their bytes at once) and cancel uploads in parts "
            "that will not be completed (POST /v1/uploads/{id}/cancel); results and inline inputs go "
            "at the job's 'results_expire_at', which 'output_expires_after' brings forward. Or ask for a larger quota."
        )
        raise StorageQuotaExceeded(message)
