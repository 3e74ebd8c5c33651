"""The end of a completion window: who becomes urgent before it, and who ends at it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from core_machine import CoreMachine
from seeded_work import good
from sqlalchemy import text

from app.domain.jobs import OnDeadline, Priority
from app.domain.states import JobState
from app.services.escalate_jobs import escalate_jobs
from app.services.expire_jobs import expire_jobs
from app.services.update_job import update_job

ESCALATES = {"on_deadline": OnDeadline.ESCALATE, "completion_window": "1h"}


def grows_older(core: CoreMachine, job_id: str, *, minutes: float) -> None:
    core.sql(
        "UPDATE jobs SET created_at = created_at - make_interval(secs => :s),"
        " deadline_at = deadline_at - make_interval(secs => :s) WHERE id = :id",
        s=minutes * 60,
        id=job_id,
    )


def told(core: CoreMachine, job_id: str) -> list[dict[str, Any]]:
    query = "SELECT data FROM events WHERE job_id = :id AND kind = 'escalated' ORDER BY id"
    return [row["data"] for row in core.sql(query, id=job_id)]


def test_a_job_becomes_urgent_when_five_sixths_of_its_window_have_passed_and_only_once(core: CoreMachine) -> None:
    job_id = core.planned([good("a")], **ESCALATES)
    grows_older(core, job_id, minutes=49)
    core.look()
    assert core.job(job_id).priority is Priority.STANDARD
    grows_older(core, job_id, minutes=2)
    for _ in range(2):
        core.look()
    assert core.job(job_id).priority is Priority.URGENT
    assert told(core, job_id) == [{"reason": "window", "from": "standard", "to": "urgent"}]


@pytest.mark.parametrize(
    "fields",
    [{"completion_window": "1h"}, {**ESCALATES, "priority": Priority.URGENT}],
    ids=["that did not ask for it", "that is urgent"],
)
def test_a_job_stays_as_it_is(core: CoreMachine, fields: dict[str, Any]) -> None:
    job_id = core.planned([good("a")], **fields)
    grows_older(core, job_id, minutes=55)
    before = core.job(job_id).priority
    assert escalate_jobs(database=core.wiring.database) == 0
    assert (core.job(job_id).priority, told(core, job_id)) == (before, [])


def test_an_escalated_job_still_expires_at_its_deadline(core: CoreMachine) -> None:
    job_id = core.planned([good("a"), good("b")], **ESCALATES)
    grows_older(core, job_id, minutes=61)
    core.look()
    assert core.drive(job_id).state is JobState.EXPIRED
    core.checker.check_job(job_id)


def test_a_job_that_was_not_yet_planned_and_one_that_is_paused_become_urgent_as_well(core: CoreMachine) -> None:
    unplanned = core.submit([good("a")], **ESCALATES)
    paused = core.planned([good("a")], **ESCALATES)
    core.sql("UPDATE jobs SET state = 'paused' WHERE id = :id", id=paused)
    for job_id in (unplanned, paused):
        grows_older(core, job_id, minutes=51)
    assert escalate_jobs(database=core.wiring.database) == 2


def test_two_dispatchers_escalate_a_job_once(core: CoreMachine) -> None:
    job_id = core.planned([good("a")], **ESCALATES)
    grows_older(core, job_id, minutes=51)
    with ThreadPoolExecutor(4) as threads:
        n_changed = sum(threads.map(lambda _: escalate_jobs(database=core.wiring.database), range(4)))
    assert (n_changed, len(told(core, job_id))) == (1, 1)


def test_whoever_lowers_an_escalated_job_again_has_the_last_word_until_the_window_is_changed(core: CoreMachine) -> None:
    job_id = core.planned([good("a")], **ESCALATES)
    grows_older(core, job_id, minutes=51)
    core.look()
    _update(core, job_id, priority=Priority.BACKGROUND)
    core.look()
    assert core.job(job_id).priority is Priority.BACKGROUND
    _update(core, job_id, completion_window="61m")
    core.look()
    assert core.job(job_id).priority is Priority.URGENT


def test_a_longer_window_saves_a_job_that_was_about_to_expire(core: CoreMachine) -> None:
    job_id = core.planned([good("a")], completion_window="1h")
    grows_older(core, job_id, minutes=61)
    with ThreadPoolExecutor(1) as threads, core.wiring.database.begin() as connection:
        longer = "UPDATE jobs SET deadline_at = created_at + interval '2 hours' WHERE id = :id"
        connection.execute(text(longer), {"id": job_id})
        expiring = threads.submit(expire_jobs, database=core.wiring.database)  # found overdue, waits for the row
        while not core.sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert not expiring.done()
        connection.commit()
        expiring.result(timeout=20)
    assert core.job(job_id).stop_reason is None
    assert core.drive(job_id).state is JobState.SUCCEEDED


def _update(core: CoreMachine, job_id: str, **changes: Any) -> None:
    update_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id, changes=changes)
