"""Delete a batch of messages: nobody sees it any more, and its results go with the next sweep."""

from __future__ import annotations

from sqlalchemy import func

from app.db.repositories.files import Files
from app.db.repositories.jobs import Jobs
from app.domain.ids import message_batch_id
from app.domain.jobs import Dialect
from app.domain.states import TERMINAL_JOB_STATES
from app.errors import InvalidRequest, StateConflict
from app.services.message_batch_details import chat_job
from app.wiring import Wiring


def delete_message_batch(*, wiring: Wiring, tenant_id: str, job_id: str) -> str:
    """Delete a batch that has ended; gives its id.

    Raises:
        NotFound: no such job, another tenant's, deleted before, or its items are no messages.
        InvalidRequest: it was made in another dialect, whose results go at their time.
        StateConflict: it has not ended.
    """
    with wiring.database.begin() as connection:
        chat_job(connection, tenant_id=tenant_id, job_id=job_id)
        job = Jobs(connection).lock(job_id)
        own_id = message_batch_id(job.id)
        if job.dialect is not Dialect.ANTHROPIC:
            raise InvalidRequest(f"{own_id} was not made by POST /v1/messages/batches, so it is not deleted here.")
        if job.state not in TERMINAL_JOB_STATES:
            message = f"{own_id} has not ended; cancel it, and delete it once it has."
            raise StateConflict(message, current=job.state, wanted="deleted")
        Jobs(connection).update(job.id, deleted_at=func.now(), results_expire_at=func.now())
        Files(connection).delete_of_job(tenant_id, job.id)
        return own_id
