"""Show one batch of messages."""

from __future__ import annotations

from app.domain.message_batches import MessageBatch
from app.services.message_batch_details import chat_job, message_batches
from app.wiring import Wiring


def show_message_batch(*, wiring: Wiring, tenant_id: str, job_id: str) -> MessageBatch:
    """One batch of a tenant with its live counts.

    Raises:
        NotFound: no such job, another tenant's, or its items are no messages.
    """
    with wiring.database.begin() as connection:
        job = chat_job(connection, tenant_id=tenant_id, job_id=job_id)
        (batch,) = message_batches(connection, wiring=wiring, tenant_id=tenant_id, jobs=[job])
        return batch
