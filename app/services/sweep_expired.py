"""Delete the objects of files and results that are past their time."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from app.db.repositories.hygiene import ExpiredJob, Hygiene
from app.wiring import Wiring

log = structlog.get_logger(__name__)
AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptExpired:
    """What one sweep deleted."""

    n_files: int
    n_jobs: int


def sweep_expired(*, wiring: Wiring) -> SweptExpired:
    """Delete objects first and mark their rows then; one that stops in the middle is done again by the next.

    The upload under a live job stays, however old it is.

    Raises:
        StorageUnavailable, DatabaseUnavailable: what was not marked is swept again later.
    """
    swept = SweptExpired(n_files=_sweep_uploads(wiring), n_jobs=_sweep_results(wiring))
    if swept.n_files or swept.n_jobs:
        log.info("expired_swept", n_files=swept.n_files, n_jobs=swept.n_jobs)
    return swept


def _sweep_uploads(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        expired = Hygiene(connection).expired_uploads(AT_ONCE)
    if expired:
        wiring.storage.delete(key for _file_id, key in expired)
        with wiring.database.begin() as connection:
            Hygiene(connection).mark_files_swept([file_id for file_id, _key in expired])
    return len(expired)


def _sweep_results(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        expired = Hygiene(connection).expired_jobs(AT_ONCE)
    for job in expired:
        _sweep_job(wiring, job)
    return len(expired)


def _sweep_job(wiring: Wiring, job: ExpiredJob) -> None:
    with wiring.database.begin() as connection:
        keys = list(Hygiene(connection).part_keys(job.job_id))
    if job.own_input_key is not None:
        keys.append(job.own_input_key)
    wiring.storage.delete(keys)
    with wiring.database.begin() as connection:
        Hygiene(connection).mark_job_swept(job.job_id)
