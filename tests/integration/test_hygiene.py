"""Sweeping on the real servers: what is past its time goes, what is needed stays."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.db.repositories.files import Files
from app.domain.jobs import Dialect, JobRequest
from app.errors import NotFound, ObjectMissing
from app.services import sweep_expired as expired_sweep
from app.services.submit_job import submit_job
from app.services.sweep_expired import sweep_expired
from app.services.sweep_orphans import sweep_orphans
from app.wiring import Wiring

AddFile = Callable[[], str]


def _execute(wiring: Wiring, statement: str, **values: object) -> None:
    with wiring.database.begin() as connection:
        connection.execute(text(statement), values)


def _is_there(wiring: Wiring, key: str) -> bool:
    try:
        with wiring.storage.open(key) as found:
            return bool(found.read())
    except ObjectMissing:
        return False


def _put(wiring: Wiring, key: str) -> str:
    wiring.storage.put(key, io.BytesIO(b"content"), size_bytes=7)
    return key


def _file_key(wiring: Wiring, tenant_id: str, file_id: str) -> str:
    with wiring.database.begin() as connection:
        return Files(connection).get(tenant_id, file_id).object_key or ""


def _finish(wiring: Wiring, job_id: str, *, results: str) -> None:
    _execute(
        wiring,
        "UPDATE jobs SET state = 'succeeded', results_expire_at = now() + cast(:results AS interval) WHERE id = :id",
        id=job_id,
        results=results,
    )


def test_an_expired_file_loses_its_object_and_keeps_its_row(wiring: Wiring, tenant_id: str, add_file: AddFile) -> None:
    file_id = add_file()
    key = _file_key(wiring, tenant_id, file_id)
    _execute(wiring, "UPDATE files SET expires_at = now() - interval '2 hours' WHERE id = :id", id=file_id)
    sweep_expired(wiring=wiring)
    assert not _is_there(wiring, key)
    with wiring.database.begin() as connection:
        assert Files(connection).ever_was(file_id)
    assert sweep_expired(wiring=wiring).n_files == 0


def test_a_deleted_file_goes_only_after_the_live_job_that_reads_it(
    wiring: Wiring, tenant_id: str, add_file: AddFile
) -> None:
    file_id = add_file()
    key = _file_key(wiring, tenant_id, file_id)
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", input_file_id=file_id)
    job = submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job
    with wiring.database.begin() as connection:
        Files(connection).delete(tenant_id, file_id)
    _execute(wiring, "UPDATE files SET deleted_at = now() - interval '2 hours' WHERE id = :id", id=file_id)
    sweep_expired(wiring=wiring)
    assert _is_there(wiring, key)
    _finish(wiring, job.id, results="30 days")
    sweep_expired(wiring=wiring)
    assert not _is_there(wiring, key)


def test_expired_results_lose_their_parts_and_their_inline_input(wiring: Wiring, tenant_id: str) -> None:
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", inputs=("hello",))
    job = submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job
    part = _put(wiring, f"parts/{tenant_id}/{job.id}/{uuid4().hex}")
    _execute(
        wiring,
        "INSERT INTO result_parts (tenant_id, job_id, seq, outcome, object_key, size_bytes, n_items, sha256)"
        " VALUES (:tenant_id, :job_id, 1, 'succeeded', :key, 7, 1, '')",
        tenant_id=tenant_id,
        job_id=job.id,
        key=part,
    )
    _finish(wiring, job.id, results="1 day")
    sweep_expired(wiring=wiring)
    assert _is_there(wiring, part)
    assert _is_there(wiring, job.input_key)
    _finish(wiring, job.id, results="-2 hours")
    sweep_expired(wiring=wiring)
    assert not _is_there(wiring, part)
    assert not _is_there(wiring, job.input_key)


def test_what_has_just_expired_stays_for_whoever_is_reading_it(
    wiring: Wiring, tenant_id: str, add_file: AddFile
) -> None:
    expired, deleted = add_file(), add_file()
    keys = [_file_key(wiring, tenant_id, file_id) for file_id in (expired, deleted)]
    _execute(wiring, "UPDATE files SET expires_at = now() - interval '50 minutes' WHERE id = :id", id=expired)
    _execute(wiring, "UPDATE files SET deleted_at = now() - interval '50 minutes' WHERE id = :id", id=deleted)
    sweep_expired(wiring=wiring)
    assert all(_is_there(wiring, key) for key in keys)
    for file_id in (expired, deleted):
        with wiring.database.begin() as connection, pytest.raises(NotFound):
            Files(connection).get(tenant_id, file_id)


def test_the_expired_input_of_a_live_job_is_read_to_the_end(wiring: Wiring, tenant_id: str, add_file: AddFile) -> None:
    file_id = add_file()
    key = _file_key(wiring, tenant_id, file_id)
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", input_file_id=file_id)
    job = submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job
    _execute(wiring, "UPDATE files SET expires_at = now() - interval '9 days' WHERE id = :id", id=file_id)
    for state in ("validating", "queued", "running", "paused", "cancelling", "finalizing"):
        _execute(wiring, "UPDATE jobs SET state = :state WHERE id = :id", state=state, id=job.id)
        sweep_expired(wiring=wiring)
        assert _is_there(wiring, key), state
    _finish(wiring, job.id, results="30 days")
    sweep_expired(wiring=wiring)
    assert not _is_there(wiring, key)


def test_one_sweep_goes_on_until_nothing_is_left(
    wiring: Wiring, add_file: AddFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expired_sweep, "AT_ONCE", 2)
    ids = [add_file() for _ in range(5)]
    _execute(wiring, "UPDATE files SET expires_at = now() - interval '2 hours' WHERE id = ANY(:ids)", ids=ids)
    assert sweep_expired(wiring=wiring).n_files == 5


def test_old_events_go_but_those_of_a_live_job_stay(wiring: Wiring, tenant_id: str) -> None:
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", inputs=("hello",))
    live, ended = (submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job for _ in range(2))
    _finish(wiring, ended.id, results="30 days")
    for job in (live, ended):
        for age in ("29 days", "31 days"):
            _execute(
                wiring,
                "INSERT INTO events (tenant_id, job_id, kind, created_at)"
                " VALUES (:tenant_id, :job_id, 'test', now() - cast(:age AS interval))",
                tenant_id=tenant_id,
                job_id=job.id,
                age=age,
            )
    sweep_expired(wiring=wiring)
    query = text("SELECT job_id FROM events WHERE job_id IN (:live, :ended) AND kind = 'test'")
    with wiring.database.begin() as connection:
        kept = connection.execute(query, {"live": live.id, "ended": ended.id}).scalars().all()
    assert sorted(kept) == sorted([live.id, live.id, ended.id])


@pytest.fixture
def impatient(wiring: Wiring) -> Wiring:
    """The same installation, but an object counts as old from its first second."""
    return replace(wiring, settings=replace(wiring.settings, orphan_age_s=-5))


def test_orphans_go_and_named_objects_stay(
    impatient: Wiring, wiring: Wiring, tenant_id: str, add_file: AddFile
) -> None:
    orphans = [_put(wiring, f"{prefix}/{tenant_id}/{uuid4().hex}") for prefix in ("files", "inputs", "parts")]
    named = _file_key(wiring, tenant_id, add_file())
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", inputs=("hello",))
    live = submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job
    inbox = _put(wiring, f"inbox/{tenant_id}/mine.jsonl")
    assert sweep_orphans(wiring=impatient) >= len(orphans)
    assert not any(_is_there(wiring, key) for key in orphans)
    assert all(_is_there(wiring, key) for key in (named, live.input_key, inbox))


def test_young_orphans_stay(wiring: Wiring, tenant_id: str) -> None:
    young = _put(wiring, f"parts/{tenant_id}/{uuid4().hex}")
    sweep_orphans(wiring=wiring)
    assert _is_there(wiring, young)
