"""List a tenant's batches of messages."""

from __future__ import annotations

from app.db.repositories.jobs import JobFilters, Jobs
from app.domain.jobs import Dialect
from app.domain.message_batches import MessageBatch
from app.domain.pages import Page
from app.services.message_batch_details import message_batches
from app.wiring import Wiring

_OWN = JobFilters(dialect=Dialect.ANTHROPIC)


def list_message_batches(
    *, wiring: Wiring, tenant_id: str, limit: int, after: str | None = None, before: str | None = None
) -> Page[MessageBatch]:
    """Batches newest first: those right behind the job ``after``, those right before ``before``, or the newest.

    Raises:
        NotFound: the tenant never had such a job.
    """
    with wiring.database.begin() as connection:
        jobs = Jobs(connection)
        if before is None:
            found = jobs.list(tenant_id, limit=limit + 1, after=after, filters=_OWN)
            shown = found[:limit]
        else:
            found = jobs.list_before(tenant_id, limit=limit + 1, before=before, filters=_OWN)
            shown = found[:limit][::-1]
        batches = message_batches(connection, wiring=wiring, tenant_id=tenant_id, jobs=shown)
        return Page(batches, has_more=len(found) > limit)
