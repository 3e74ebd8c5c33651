"""Keep a tenant within what it may store."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.repositories.stored_bytes import StoredBytes
from app.errors import StorageQuotaExceeded
from app.services.tenant_quotas import tenant_quota
from config.settings import Settings


def check_storage(connection: Connection, settings: Settings, *, tenant_id: str, new_bytes: int = 1) -> None:
    """Refuse what a tenant has no room for.

    Args:
        new_bytes: what is to come; 0 where it has just been counted, in this transaction: then no two can pass where
            there is room for one.
    Raises:
        StorageQuotaExceeded: with what is used, and what to do.
    """
    limit = tenant_quota(connection, settings, tenant_id=tenant_id).max_storage_bytes
    used = StoredBytes(connection).of([tenant_id])[tenant_id]
    if used + new_bytes > limit:
        message = (
            f"This tenant stores {used} of {limit} bytes and has no room for this. Delete files that are not needed "
            "(GET /v1/files lists them, DELETE /v1/files/{id} frees their bytes at once) and cancel uploads in parts "
            "that will not be completed (POST /v1/uploads/{id}/cancel); results and inline inputs go "
            "at the job's 'results_expire_at', which 'output_expires_after' brings forward. Or ask for a larger quota."
        )
        raise StorageQuotaExceeded(message)
