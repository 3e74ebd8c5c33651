"""Delete a file."""

from __future__ import annotations

from app.db.repositories.files import Files
from app.wiring import Wiring


def delete_file(*, wiring: Wiring, tenant_id: str, file_id: str) -> None:
    """Take a file away from its tenant. A live job that reads it keeps it; hygiene deletes the content afterwards.

    Raises:
        NotFound: no such file, another tenant's, deleted or expired.
    """
    with wiring.database.begin() as connection:
        Files(connection).delete(tenant_id, file_id)
