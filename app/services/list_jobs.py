"""List a tenant's jobs."""

from __future__ import annotations

from app.db.repositories.jobs import JobFilters, Jobs
from app.domain.jobs import JobDetails
from app.domain.pages import Page
from app.services.explain_waiting import explain_waiting
from app.services.job_details import job_details
from app.wiring import Wiring


def list_jobs(
    *, wiring: Wiring, tenant_id: str, limit: int, after: str | None, filters: JobFilters
) -> Page[JobDetails]:
    """Jobs newest first, behind the job whose id is ``after``.

    Raises:
        NotFound: there is no job ``after``.
    """
    with wiring.database.begin() as connection:
        found = Jobs(connection).list(tenant_id, limit=limit + 1, after=after, filters=filters)
        details = job_details(connection, found[:limit], wiring.models)
        explained = explain_waiting(connection, wiring.outlooks, details)
    return Page(items=explained, has_more=len(found) > limit)
