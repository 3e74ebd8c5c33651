"""Accept a native request: as a job, or as a group of jobs where its file is above one job's limits."""

from __future__ import annotations

from app.domain.files import File
from app.domain.groups import GroupDetails
from app.domain.jobs import JobDetails, JobRequest
from app.services.answer_once import Once
from app.services.submit_group import submit_group
from app.services.submit_job import input_file, submit_job
from app.wiring import Wiring
from config.settings import Settings


def submit_job_or_group(
    *, wiring: Wiring, tenant_id: str, request: JobRequest, once: Once[JobDetails | GroupDetails] | None = None
) -> JobDetails | GroupDetails:
    """Make a job, or a group; once this returns, it is durable.

    Raises:
        InvalidRequest, RequestTooLarge, QueueFull, StorageQuotaExceeded, StorageUnavailable, DatabaseUnavailable: see
            ``submit_job``.
    """
    if request.input_file_id is not None:
        file = input_file(wiring.database, tenant_id, request.input_file_id)
        if is_above_one_job(file, wiring.settings):
            return submit_group(wiring=wiring, tenant_id=tenant_id, request=request, file=file, once=once)
    return submit_job(wiring=wiring, tenant_id=tenant_id, request=request, once=once)


def is_above_one_job(file: File, settings: Settings) -> bool:
    """Whether a file has more bytes or more lines than one job takes; its lines were counted as it came in."""
    return file.size_bytes > settings.max_file_bytes or (file.n_lines or 0) > settings.max_job_items
