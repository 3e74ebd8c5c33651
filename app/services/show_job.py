"""Show one job."""

from __future__ import annotations

from app.db.repositories.jobs import Jobs
from app.domain.jobs import JobDetails
from app.services.job_details import job_details
from app.wiring import Wiring


def show_job(*, wiring: Wiring, tenant_id: str, job_id: str) -> JobDetails:
    """One job of a tenant with its live counts.

    Raises:
        NotFound: no such job, or another tenant's.
    """
    with wiring.database.begin() as connection:
        job = Jobs(connection).get(tenant_id, job_id)
        return job_details(connection, [job], wiring.models)[0]
