"""Delete what is past its time: objects of files and results, events, kept answers, webhooks that are over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import structlog

from app.db.repositories.hygiene import ExpiredJob, Hygiene
from app.db.repositories.idempotency_keys import IdempotencyKeys
from app.db.repositories.uploads import Uploads
from app.db.repositories.webhook_deliveries import WebhookDeliveries
from app.wiring import Wiring

log = structlog.get_logger(__name__)
AT_ONCE = 500
MOST_ROUNDS = 200
"""One sweep deletes up to 100,000 of a kind; the next goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptExpired:
    """What one sweep deleted."""

    n_files: int
    n_jobs: int
    n_uploads: int
    """Uploads in parts that are over."""
    n_events: int
    n_idempotency_keys: int
    n_webhook_deliveries: int


def sweep_expired(*, wiring: Wiring) -> SweptExpired:
    """Delete objects first and mark their rows then; one that stops in the middle is done again by the next.

    What is expired or deleted is not served any more from that moment on; its objects go ``expiry_grace_s`` later, so
    that nothing is pulled from under a download, or under a job that is being accepted. The upload under a live job
    stays until that has ended, however old it is.

    Raises:
        StorageUnavailable, DatabaseUnavailable: what was not marked is swept again later.
    """
    swept = SweptExpired(
        n_files=_repeated(_sweep_uploads, wiring),
        n_jobs=_repeated(_sweep_results, wiring),
        n_uploads=_repeated(_sweep_parted_uploads, wiring),
        n_events=_repeated(_sweep_events, wiring),
        n_idempotency_keys=_repeated(_sweep_idempotency_keys, wiring),
        n_webhook_deliveries=_repeated(_sweep_webhook_deliveries, wiring),
    )
    if any(asdict(swept).values()):
        log.info("expired_swept", **asdict(swept))
    return swept


def _repeated(sweep: Callable[[Wiring], int], wiring: Wiring) -> int:
    total = 0
    for _ in range(MOST_ROUNDS):
        n_swept = sweep(wiring)
        total += n_swept
        if n_swept < AT_ONCE:
            break
    return total


def _sweep_uploads(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        expired = Hygiene(connection, grace_s=wiring.settings.expiry_grace_s).expired_uploads(AT_ONCE)
    if expired:
        wiring.storage.delete(key for _file_id, key in expired)
        with wiring.database.begin() as connection:
            Hygiene(connection).mark_files_swept([file_id for file_id, _key in expired])
    return len(expired)


def _sweep_parted_uploads(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        over = Uploads(connection).over(AT_ONCE, grace_s=wiring.settings.expiry_grace_s)
    for upload_id in over:
        with wiring.database.begin() as connection:
            keys = Uploads(connection).part_keys(upload_id)
        wiring.storage.delete(keys)
        with wiring.database.begin() as connection:
            Uploads(connection).mark_swept(upload_id)
    return len(over)


def _sweep_results(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        expired = Hygiene(connection, grace_s=wiring.settings.expiry_grace_s).expired_jobs(AT_ONCE)
    for job in expired:
        _sweep_job(wiring, job)
    return len(expired)


def _sweep_job(wiring: Wiring, job: ExpiredJob) -> None:
    with wiring.database.begin() as connection:
        hygiene = Hygiene(connection, grace_s=wiring.settings.expiry_grace_s)
        if not hygiene.lock_expired_job(job.job_id):
            return
        keys = list(hygiene.part_keys(job.job_id))
    if job.own_input_key is not None:
        keys.append(job.own_input_key)
    wiring.storage.delete(keys)
    with wiring.database.begin() as connection:
        Hygiene(connection).mark_job_swept(job.job_id)


def _sweep_events(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        older_than_s = wiring.settings.events_retention_s
        return Hygiene(connection).delete_events(older_than_s=older_than_s, limit=AT_ONCE)


def _sweep_webhook_deliveries(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        older_than_s = wiring.settings.events_retention_s
        return WebhookDeliveries(connection).delete_ended(older_than_s=older_than_s, limit=AT_ONCE)


def _sweep_idempotency_keys(wiring: Wiring) -> int:
    with wiring.database.begin() as connection:
        max_age_s = wiring.settings.idempotency_retention_s
        return IdempotencyKeys(connection, max_age_s=max_age_s).sweep(AT_ONCE)
