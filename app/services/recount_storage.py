"""Compare what each tenant was counted to store with its rows."""

from __future__ import annotations

import structlog

from app.db.repositories.stored_bytes import StoredBytes
from app.wiring import Wiring

log = structlog.get_logger(__name__)


def recount_storage(*, wiring: Wiring) -> int:
    """Mend every number that is wrong, each tenant in a transaction of its own; gives how many were.

    None ever should be: a wrong one is a change that was not counted, and a bug.
    """
    with wiring.database.begin() as connection:
        tenant_ids = StoredBytes(connection).tenant_ids()
    n_wrong = 0
    for tenant_id in tenant_ids:
        with wiring.database.begin() as connection:
            wrong_by = StoredBytes(connection).recount(tenant_id)
        if wrong_by:
            n_wrong += 1
            log.error("stored_bytes_mended", tenant_id=tenant_id, wrong_by_bytes=wrong_by)
    return n_wrong
