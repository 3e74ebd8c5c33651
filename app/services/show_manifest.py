"""Show what a job's results consist of."""

from __future__ import annotations

from app.db.repositories.jobs import Jobs
from app.db.repositories.parts import Parts
from app.domain.manifests import Manifest
from app.domain.states import TERMINAL_JOB_STATES
from app.services.read_results import check_not_expired
from app.wiring import Wiring


def show_manifest(*, wiring: Wiring, tenant_id: str, job_id: str) -> Manifest:
    """The result parts that exist now; all of them once the job has ended.

    Raises:
        NotFound: no such job, another tenant's, or its results are past their life.
    """
    with wiring.database.snapshot() as connection:
        job = Jobs(connection).get(tenant_id, job_id)
        stored = Parts(connection)
        check_not_expired(stored, job)
        parts = stored.list(tenant_id, job.id)
    return Manifest(job_id=job.id, complete=job.state in TERMINAL_JOB_STATES, parts=parts)
