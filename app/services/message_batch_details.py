"""Jobs as batches of messages; used by every service that returns one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from app.db.repositories.jobs import Jobs
from app.db.repositories.parts import Parts
from app.domain.ids import message_batch_id
from app.domain.jobs import Job
from app.domain.message_batches import CHAT_ENDPOINT, MessageBatch
from app.domain.states import TERMINAL_JOB_STATES
from app.errors import NotFound
from app.services.job_details import job_details
from app.wiring import Wiring


def chat_job(connection: Connection, *, tenant_id: str, job_id: str) -> Job:
    """A job of a tenant whose items are messages, whichever dialect made it.

    Raises:
        NotFound: no such job, another tenant's, or its items are something else.
    """
    job = Jobs(connection).get(tenant_id, job_id)
    if job.endpoint != CHAT_ENDPOINT:
        raise NotFound(f"The job {job.id} is no batch of messages: its items are for {job.endpoint}.", param="id")
    return job


def message_batches(
    connection: Connection, *, wiring: Wiring, tenant_id: str, jobs: Sequence[Job]
) -> list[MessageBatch]:
    """The jobs in their order, with their counts."""
    expired = Parts(connection).expired_among(tenant_id, [job.id for job in jobs])
    return [
        MessageBatch(
            details=details,
            results_url=_results_url(wiring, details.job) if details.job.state in TERMINAL_JOB_STATES else None,
            is_archived=details.job.id in expired,
        )
        for details in job_details(connection, jobs, wiring.models)
    ]


def _results_url(wiring: Wiring, job: Job) -> str:
    return f"{wiring.settings.public_url.rstrip('/')}/v1/messages/batches/{message_batch_id(job.id)}/results"
