"""Show one file."""

from __future__ import annotations

from app.db.repositories.files import Files
from app.domain.files import File
from app.wiring import Wiring


def show_file(*, wiring: Wiring, tenant_id: str, file_id: str) -> File:
    """One file of the tenant.

    Raises:
        NotFound: no such file, another tenant's, deleted or expired.
    """
    with wiring.database.begin() as connection:
        return Files(connection).get(tenant_id, file_id)
