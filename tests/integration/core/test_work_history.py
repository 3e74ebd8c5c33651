"""All-time sums are the same before, while and after the past is summed up, and are not read from all rows."""

from __future__ import annotations

from typing import Any

import pytest
from core_machine import CoreMachine
from seeded_work import failing, good
from sqlalchemy import text

from app.db.repositories import work_history
from app.db.repositories.work_history import WorkHistory
from app.services.sum_up_work import sum_up_work

Sums = tuple[dict[str, int], dict[str, int], list[Any], list[Any]]


def _sums(core: CoreMachine) -> Sums:
    with core.wiring.database.snapshot() as connection:
        history = WorkHistory(connection)
        durations = sorted(history.chunk_durations(), key=lambda found: found.label)
        times = sorted([*history.job_runs(), *history.job_times(), *history.windows()], key=lambda found: found.label)
        counts = [history.tokens(), history.chunk_retries(), sorted(history.device_seconds())]
        return history.items_by_outcome(), history.failures_by_code(), [*durations, *times], counts


def _n_kept(core: CoreMachine) -> int:
    return int(core.sql("SELECT coalesce(sum(n), 0) AS n FROM work_totals WHERE kind = 'items'")[0]["n"])


@pytest.fixture
def worked(core: CoreMachine) -> CoreMachine:
    """Two jobs that ended hours and days ago, one of them with failures, one that was cancelled, and a fresh one."""
    ids = [core.submit([*(good(f"{n}") for n in range(6)), failing("x")]) for _ in range(2)]
    for job_id in ids:
        core.drive(job_id)
    cancelled = core.planned([good("a"), good("b")])
    core.sql("UPDATE chunks SET state = 'cancelled', finished_at = now() WHERE job_id = :id", id=cancelled)
    for job_id, age in zip((*ids, cancelled), ("3 days", "5 hours", "4 hours"), strict=True):
        core.sql(
            "UPDATE chunks SET finished_at = finished_at - CAST(:age AS interval),"
            " claimed_at = claimed_at - CAST(:age AS interval) WHERE job_id = :id",
            id=job_id,
            age=age,
        )
        core.sql(
            "UPDATE jobs SET finished_at = finished_at - CAST(:age AS interval),"
            " created_at = created_at - CAST(:age AS interval) WHERE id = :id",
            id=job_id,
            age=age,
        )
    core.drive(core.submit([good("fresh")]))
    return core


def test_summing_up_changes_no_sum(worked: CoreMachine) -> None:
    before = _sums(worked)
    assert before[0] == {"succeeded": 13, "failed": 2, "cancelled": 2}
    assert before[1] == {"context_length_exceeded": 2}
    with worked.wiring.database.begin() as connection:
        assert WorkHistory(connection).sum_up()  # the first day
    assert _n_kept(worked) == 7
    _assert_same(_sums(worked), before)
    assert sum_up_work(database=worked.wiring.database) > 1
    assert _n_kept(worked) == 16  # all but the fresh one
    _assert_same(_sums(worked), before)
    sum_up_work(database=worked.wiring.database)
    _assert_same(_sums(worked), before)


def test_the_past_is_not_read_again(worked: CoreMachine) -> None:
    sum_up_work(database=worked.wiring.database)
    before = _sums(worked)
    worked.sql("UPDATE chunks SET n_succeeded = 1000 WHERE finished_at < now() - interval '1 hour'")
    _assert_same(_sums(worked), before)


def test_what_ended_just_now_waits_until_it_is_settled(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _n_kept(core)
    core.drive(core.submit([good("fresh")]))
    sum_up_work(database=core.wiring.database)
    assert _n_kept(core) == kept
    monkeypatch.setattr(work_history, "SETTLED_S", 0)
    sum_up_work(database=core.wiring.database)
    assert _n_kept(core) > kept


def test_a_reader_sees_one_moment_while_the_past_is_summed_up(worked: CoreMachine) -> None:
    before = _sums(worked)
    with worked.wiring.database.snapshot() as connection:
        history = WorkHistory(connection)
        connection.execute(text("SELECT 1 FROM work_totals_until"))
        sum_up_work(database=worked.wiring.database)
        assert history.items_by_outcome() == before[0]


def _assert_same(found: Sums, wanted: Sums) -> None:
    assert found[:2] == wanted[:2]
    assert found[3] == wanted[3]
    for one, other in zip(found[2], wanted[2], strict=True):
        assert (one.label, one.at_most, one.n) == (other.label, other.at_most, other.n)
        assert one.sum_s == pytest.approx(other.sum_s)
