"""Schedules on the real servers: one run a tick, each job of it once, whatever dies in between."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.db.repositories.schedules import Schedules
from app.db.tables import jobs, schedule_runs, schedules
from app.domain.jobs import Dialect, JobRequest
from app.domain.schedules import Schedule, ScheduleRequest, ScheduleSource, request_of
from app.errors import InvalidRequest, NotFound
from app.services.change_schedule import change_schedule
from app.services.create_schedule import create_schedule
from app.services.delete_schedule import delete_schedule
from app.services.list_schedule_runs import list_schedule_runs
from app.services.run_schedule import run_schedule
from app.services.show_schedule import show_schedule
from app.services.submit_job import submit_job
from app.services.tick_schedules import tick_schedules
from app.storage.s3 import S3Store
from app.wiring import Wiring, build_wiring

LINES = b'{"custom_id": "a", "body": {"input": "hello"}}\n'
AddFile = Callable[[], str]


def _request(**changes: Any) -> ScheduleRequest:
    job = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo")
    known: dict[str, Any] = {"name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "job": job}
    return ScheduleRequest(**{**known, **changes})


@pytest.fixture
def nightly(wiring: Wiring, tenant_id: str, add_file: AddFile) -> Schedule:
    """A schedule over one uploaded file."""
    request = _request(source=ScheduleSource(file_id=add_file()))
    return create_schedule(wiring=wiring, tenant_id=tenant_id, request=request)


def _make_due(wiring: Wiring, schedule: Schedule, *, ago: str = "1 minute") -> None:
    with wiring.database.begin() as connection:
        due = schedules.update().where(schedules.c.id == schedule.id)
        connection.execute(due.values(next_tick_at=func.now() - text(f"interval '{ago}'")))


def _jobs_of(wiring: Wiring, schedule: Schedule) -> list[Any]:
    with wiring.database.begin() as connection:
        query = select(jobs).where(jobs.c.schedule_id == schedule.id).order_by(jobs.c.created_at)
        return list(connection.execute(query).mappings())


def _runs_of(wiring: Wiring, schedule: Schedule) -> list[Any]:
    with wiring.database.begin() as connection:
        query = select(schedule_runs).where(schedule_runs.c.schedule_id == schedule.id)
        return list(connection.execute(query.order_by(schedule_runs.c.created_at)).mappings())


def _put(wiring: Wiring, key: str, content: bytes = LINES) -> None:
    wiring.storage.put(key, io.BytesIO(content), size_bytes=len(content))


def test_a_new_schedule_waits_for_its_next_tick(wiring: Wiring, nightly: Schedule) -> None:
    tick_schedules(wiring=wiring)
    assert nightly.next_tick_at is not None
    assert nightly.next_tick_at > nightly.created_at
    assert _runs_of(wiring, nightly) == []


def test_a_due_schedule_runs_once_and_moves_on(wiring: Wiring, nightly: Schedule) -> None:
    _make_due(wiring, nightly)
    for _ in range(3):
        tick_schedules(wiring=wiring)
    (job,) = _jobs_of(wiring, nightly)
    (run,) = _runs_of(wiring, nightly)
    assert run["job_ids"] == [job["id"]]
    assert job["tenant_id"] == nightly.tenant_id
    assert job["endpoint"] == "/v1/echo"
    assert show_schedule(wiring=wiring, tenant_id=nightly.tenant_id, schedule_id=nightly.id).next_tick_at == (
        nightly.next_tick_at
    )


def test_two_beats_at_once_start_one_run(wiring: Wiring, nightly: Schedule) -> None:
    others = [build_wiring(wiring.settings) for _ in range(4)]
    try:
        for _ in range(5):
            _make_due(wiring, nightly)
            with ThreadPoolExecutor(len(others)) as beats:
                list(beats.map(lambda other: tick_schedules(wiring=other), others))
    finally:
        for other in others:
            other.database.close()
    tick_schedules(wiring=wiring)
    assert len(_runs_of(wiring, nightly)) == 5
    assert len(_jobs_of(wiring, nightly)) == 5


def test_ticks_missed_while_everything_was_down_are_made_up_for_by_one_run(wiring: Wiring, nightly: Schedule) -> None:
    _make_due(wiring, nightly, ago="5 days")
    tick_schedules(wiring=wiring)
    tick_schedules(wiring=wiring)
    assert len(_jobs_of(wiring, nightly)) == 1


def test_a_run_whose_maker_died_before_its_job_is_made_later(wiring: Wiring, nightly: Schedule) -> None:
    with wiring.database.begin() as connection:
        Schedules(connection).add_run(nightly, tick_at=nightly.next_tick_at)
    tick_schedules(wiring=wiring)
    assert len(_jobs_of(wiring, nightly)) == 1


def test_a_job_whose_maker_died_before_recording_it_is_adopted_and_not_doubled(
    wiring: Wiring, nightly: Schedule
) -> None:
    with wiring.database.begin() as connection:
        Schedules(connection).add_run(nightly, tick_at=nightly.next_tick_at)
    file_id = nightly.source.file_id or ""
    request = request_of(nightly.job_template, schedule_id=nightly.id, file_id=file_id)
    made = submit_job(wiring=wiring, tenant_id=nightly.tenant_id, request=request)
    tick_schedules(wiring=wiring)
    (run,) = _runs_of(wiring, nightly)
    assert run["job_ids"] == [made.job.id]
    assert len(_jobs_of(wiring, nightly)) == 1


def test_a_run_waits_while_the_object_store_is_down(wiring: Wiring, tenant_id: str) -> None:
    request = _request(source=ScheduleSource(prefix="inbox/loans/"))
    schedule = create_schedule(wiring=wiring, tenant_id=tenant_id, request=request)
    _put(wiring, f"inbox/{tenant_id}/loans/a.jsonl")
    settings = replace(wiring.settings, s3_endpoint="http://127.0.0.1:1", connect_timeout_s=0.2)
    without_storage = replace(wiring, storage=S3Store.from_settings(settings))
    _make_due(wiring, schedule)
    tick_schedules(wiring=without_storage)
    assert [(run["job_ids"], run["problem"]) for run in _runs_of(wiring, schedule)] == [([], None)]
    tick_schedules(wiring=wiring)
    assert len(_jobs_of(wiring, schedule)) == 1


def test_each_version_of_an_inbox_object_becomes_one_job(wiring: Wiring, tenant_id: str) -> None:
    inbox = f"inbox/{tenant_id}/loans"
    schedule = create_schedule(
        wiring=wiring, tenant_id=tenant_id, request=_request(source=ScheduleSource(prefix="loans/"))
    )
    for key in ("a.jsonl", "deep/b.jsonl", "notes.txt"):
        _put(wiring, f"{inbox}/{key}")
    _put(wiring, f"inbox/{tenant_id}/other/c.jsonl")

    def run() -> int:
        report = run_schedule(wiring=wiring, tenant_id=tenant_id, schedule_id=schedule.id)
        return len(report.run.job_ids)

    assert run() == 2
    assert run() == 0
    _put(wiring, f"{inbox}/a.jsonl", LINES + b'{"custom_id": "b", "body": {"input": "again"}}\n')
    assert run() == 1
    assert len({job["input_key"] for job in _jobs_of(wiring, schedule)}) == 3


def test_a_run_without_input_says_so(wiring: Wiring, tenant_id: str) -> None:
    request = _request(source=ScheduleSource(prefix="nothing/"))
    schedule = create_schedule(wiring=wiring, tenant_id=tenant_id, request=request)
    report = run_schedule(wiring=wiring, tenant_id=tenant_id, schedule_id=schedule.id)
    assert report.run.problem == "there was no new .jsonl object under 'nothing/' in the inbox"


def test_a_run_whose_file_is_gone_says_so_and_is_not_tried_for_ever(wiring: Wiring, nightly: Schedule) -> None:
    with wiring.database.begin() as connection:
        connection.execute(text("UPDATE files SET deleted_at = now() WHERE id = :id"), {"id": nightly.source.file_id})
    _make_due(wiring, nightly)
    tick_schedules(wiring=wiring)
    (run,) = _runs_of(wiring, nightly)
    assert nightly.source.file_id in run["problem"]


def test_due_by_becomes_the_deadline_of_the_jobs(wiring: Wiring, tenant_id: str, add_file: AddFile) -> None:
    request = _request(source=ScheduleSource(file_id=add_file()), due_by="08:00", timezone="UTC")
    schedule = create_schedule(wiring=wiring, tenant_id=tenant_id, request=request)
    run_schedule(wiring=wiring, tenant_id=tenant_id, schedule_id=schedule.id)
    (job,) = _jobs_of(wiring, schedule)
    away_s = abs((job["deadline_at"].replace(hour=8, minute=0, second=0, microsecond=0) - job["deadline_at"]).seconds)
    assert min(away_s, 86_400 - away_s) <= 61


def test_a_schedule_that_is_off_does_not_run_and_makes_nothing_up(wiring: Wiring, nightly: Schedule) -> None:
    ids = {"wiring": wiring, "tenant_id": nightly.tenant_id, "schedule_id": nightly.id}
    assert change_schedule(**ids, changes={"enabled": False}).next_tick_at is None
    tick_schedules(wiring=wiring)
    back = change_schedule(**ids, changes={"enabled": True, "cron": "0 3 * * *"})
    tick_schedules(wiring=wiring)
    assert back.cron == "0 3 * * *"
    assert back.next_tick_at is not None
    assert _runs_of(wiring, nightly) == []


def test_a_deleted_schedule_is_gone_and_its_open_run_is_closed(wiring: Wiring, nightly: Schedule) -> None:
    with wiring.database.begin() as connection:
        Schedules(connection).add_run(nightly, tick_at=nightly.next_tick_at)
    delete_schedule(wiring=wiring, tenant_id=nightly.tenant_id, schedule_id=nightly.id)
    tick_schedules(wiring=wiring)
    assert _jobs_of(wiring, nightly) == []
    with pytest.raises(NotFound):
        show_schedule(wiring=wiring, tenant_id=nightly.tenant_id, schedule_id=nightly.id)


def test_another_tenants_schedule_is_not_there(wiring: Wiring, nightly: Schedule, other_tenant_id: str) -> None:
    for call in (show_schedule, delete_schedule, run_schedule):
        with pytest.raises(NotFound):
            call(wiring=wiring, tenant_id=other_tenant_id, schedule_id=nightly.id)
    with pytest.raises(NotFound):
        list_schedule_runs(wiring=wiring, tenant_id=other_tenant_id, schedule_id=nightly.id, limit=5)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"cron": "nonsense"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"source": ScheduleSource(file_id="file-nowhere")}, "source.file_id"),
        ({"job": JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/nothing")}, "endpoint"),
        ({"job": JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="nobody")}, "model"),
        ({"job": JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", completion_window="1y")}, "completion_window"),
    ],
)
def test_a_wrong_schedule_is_refused_when_it_is_made(
    wiring: Wiring, tenant_id: str, changes: dict[str, Any], param: str
) -> None:
    request = _request(**{"source": ScheduleSource(prefix="loans/"), **changes})
    with pytest.raises(InvalidRequest) as refused:
        create_schedule(wiring=wiring, tenant_id=tenant_id, request=request)
    assert refused.value.param == param
