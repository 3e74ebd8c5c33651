"""Postgres has no room left: what would write is refused or waits, nothing is half there, and it goes on when there is.

A trigger says what Postgres says when a file cannot grow (SQLSTATE 53100); ``make chaos`` fills a real disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from core_machine import CoreMachine
from seeded_work import expected_of, good

from app.domain.states import JobState
from app.errors import DatabaseUnavailable

TABLES = ("jobs", "chunks", "result_parts", "events")


@contextmanager
def full_disk(core: CoreMachine) -> Iterator[None]:
    """No row can be added to the tables of work."""
    core.sql(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
        " 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
    )
    for table in TABLES:
        core.sql(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} EXECUTE FUNCTION no_room()")
    try:
        yield
    finally:
        core.sql("DROP FUNCTION no_room CASCADE")


def test_a_job_is_refused_with_the_reason_and_is_not_there(core: CoreMachine) -> None:
    before = core.sql("SELECT count(*) AS n FROM jobs")
    with full_disk(core), pytest.raises(DatabaseUnavailable, match="the database's disk is full") as refused:
        core.submit([good("a")])
    assert refused.value.retryable
    assert core.sql("SELECT count(*) AS n FROM jobs") == before
    core.drive(core.submit([good("a")]))


def test_whatever_step_meets_the_full_disk_the_job_ends_whole_when_there_is_room(core: CoreMachine) -> None:
    items = [good(name) for name in "abcdef"]
    job_id = core.submit(items)
    with full_disk(core), pytest.raises(DatabaseUnavailable):
        core.prepare(job_id)
    core.prepare(job_id)
    with full_disk(core), pytest.raises(DatabaseUnavailable):
        core.granted(job_id)
    for chunk_id in core.granted(job_id):
        core.run(chunk_id)
    with full_disk(core), pytest.raises(DatabaseUnavailable):
        core.finish(job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))
