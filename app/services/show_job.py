"""Show one job."""

from __future__ import annotations

from app.db.repositories.jobs import Jobs
from app.domain.jobs import JobDetails
from app.services.explain_waiting import explain_waiting
from app.services.job_details import job_details
from app.wiring import Wiring


def show_job(*, wiring: Wiring, tenant_id: str, job_id: str) -> JobDetails:
    """One job of a tenant with its live counts, why it waits and when it will end.

    Raises:
        NotFound: no such job, or another tenant's.
    """
    with wiring.database.begin() as connection:
        job = Jobs(connection).get(tenant_id, job_id)
        details = job_details(connection, [job], wiring.models)
        return explain_waiting(connection, wiring.outlooks, details)[0]
