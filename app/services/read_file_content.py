"""Find where the content of a file lies."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.repositories.files import Files
from app.db.repositories.jobs import Jobs
from app.db.repositories.parts import Parts
from app.domain.byte_ranges import Content, Segment
from app.domain.files import File
from app.errors import NotFound
from app.wiring import Wiring

OUTPUT_OUTCOMES = ("succeeded",)
ERROR_OUTCOMES = ("failed", "cancelled", "expired")


def read_file_content(*, wiring: Wiring, tenant_id: str, file_id: str) -> Content:
    """The objects behind a file: one for an upload, the job's parts in their order for an output.

    Raises:
        NotFound: no such file, another tenant's, deleted or expired.
    """
    with wiring.database.snapshot() as connection:
        file = Files(connection).get(tenant_id, file_id)
        if file.object_key is not None:
            return Content((Segment(file.object_key, 0, file.size_bytes),))
        return _output(connection, tenant_id, file)


def _output(connection: Connection, tenant_id: str, file: File) -> Content:
    job = Jobs(connection).get(tenant_id, file.job_id or "")
    if file.id not in {job.output_file_id, job.error_file_id}:
        raise NotFound(f"the file {file.id} is no longer an output of its job")
    outcomes = OUTPUT_OUTCOMES if file.id == job.output_file_id else ERROR_OUTCOMES
    parts = Parts(connection).list(tenant_id, job.id, outcomes=outcomes)
    return Content(tuple(Segment(part.object_key, 0, part.size_bytes) for part in parts))
