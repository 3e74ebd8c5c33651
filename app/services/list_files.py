"""List a tenant's files."""

from __future__ import annotations

from app.db.repositories.files import Files
from app.domain.files import File
from app.domain.pages import Page
from app.wiring import Wiring


def list_files(
    *, wiring: Wiring, tenant_id: str, limit: int, after: str | None, purpose: str | None, newest_first: bool
) -> Page[File]:
    """Files by creation time, behind the file ``after``.

    Raises:
        NotFound: the tenant never had a file ``after``.
    """
    with wiring.database.begin() as connection:
        return Files(connection).list(tenant_id, limit=limit, after=after, purpose=purpose, newest_first=newest_first)
