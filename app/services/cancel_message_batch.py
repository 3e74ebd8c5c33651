"""Cancel a batch of messages."""

from __future__ import annotations

from app.db.repositories.jobs import Jobs
from app.domain.message_batches import MessageBatch
from app.services.cancel_job import cancel_locked
from app.services.message_batch_details import chat_job, message_batches
from app.wiring import Wiring


def cancel_message_batch(*, wiring: Wiring, tenant_id: str, job_id: str) -> MessageBatch:
    """Ask for the end of a batch. Asking twice is no error.

    Raises:
        NotFound: no such job, another tenant's, or its items are no messages.
        StateConflict: it has ended already, or its results are being closed.
    """
    with wiring.database.begin() as connection:
        chat_job(connection, tenant_id=tenant_id, job_id=job_id)
        job = cancel_locked(connection, Jobs(connection).lock(job_id))
        (batch,) = message_batches(connection, wiring=wiring, tenant_id=tenant_id, jobs=[job])
        return batch
