"""Draining a device: it finishes what it runs and takes no more, over restarts, until it is undrained."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from core_machine import CoreMachine, Interrupted
from seeded_work import expected_of, good

from app.db.repositories.jobs import Jobs
from app.domain.states import JobState
from app.domain.workers import Worker, WorkerState
from app.errors import NotFound
from app.services.drain_worker import drain_worker
from app.services.list_workers import list_workers
from app.services.run_chunk import Ran
from app.services.undrain_worker import undrain_worker

MANY = [good(f"item-{number}") for number in range(16)]


@pytest.fixture(autouse=True)
def _nothing_stays_drained(core: CoreMachine) -> Iterator[None]:
    yield
    core.sql("DELETE FROM drains")


def drain(core: CoreMachine, queue: str = "cpu.0") -> Worker:
    return drain_worker(wiring=core.wiring, queue=queue)


def undrain(core: CoreMachine, queue: str = "cpu.0") -> Worker:
    return undrain_worker(wiring=core.wiring, queue=queue)


def shown(core: CoreMachine, queue: str = "cpu.0") -> Worker:
    return next(worker for worker in list_workers(wiring=core.wiring) if worker.queue == queue)


def test_a_drained_worker_finishes_its_chunk_and_gets_no_other(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    running, waiting = core.granted(job_id)
    seen: list[Worker] = []
    assert core.run(running, runner=Interrupted(core.runner, lambda: seen.append(drain(core)))) is Ran.DONE
    assert [(worker.state, worker.n_waiting) for worker in seen] == [(WorkerState.DRAINING, 0)]
    assert seen[0].running is not None
    assert (seen[0].running.chunk_id, seen[0].running.job_id) == (running, job_id)
    assert shown(core).state is WorkerState.DRAINED
    assert core.chunk(waiting)["state"] == "pending"
    assert core.granted(job_id) == []
    undrain(core)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of(MANY))


def test_a_drain_does_not_wait_for_who_claims_a_chunk_meanwhile(core: CoreMachine) -> None:
    """A claim locks the job and then the chunk; the drain has the chunk and writes an event that refers to the job."""
    job_id = core.planned(MANY)
    core.granted(job_id)
    with ThreadPoolExecutor(1) as pool, core.wiring.database.begin() as connection:
        Jobs(connection).lock(job_id)
        assert pool.submit(drain, core).result(timeout=10).drained_at is not None


def test_a_message_sent_before_the_drain_finds_nothing_to_do(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    chunk_id, _ = core.granted(job_id)
    drain(core)
    assert core.run(chunk_id) is Ran.NOT_OURS
    core.worker_lives("cpu.1", "worker-2")
    core.look()
    (sent,) = [grants for _, grants in core.publisher.take_waves()]
    assert {grant.queue for grant in sent} == {"cpu.1"}
    assert core.run(sent[0].chunk_id) is Ran.NOT_OURS, "the drained worker ran what was granted to another"
    assert core.run(sent[0].chunk_id, queue="cpu.1", holder="worker-2") is Ran.DONE


def test_a_grant_that_crossed_the_drain_comes_back(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    core.sql("INSERT INTO drains (queue) VALUES ('cpu.0')")
    assert core.run(chunk_id) is Ran.NOT_OURS
    core.patience_ends()
    core.look()
    assert core.chunk(chunk_id)["state"] == "pending"


def test_a_drain_outlives_the_process(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    core.worker_lives()
    drain(core)
    core.worker_lives(incarnation="worker-after-a-restart")
    assert shown(core).state is WorkerState.DRAINED
    assert shown(core).incarnation == "worker-after-a-restart"
    core.sql("DELETE FROM workers")
    assert (shown(core).state, shown(core).host) == (WorkerState.DRAINED, None)
    core.look()
    assert core.publisher.waves == []
    assert undrain(core).state is WorkerState.SILENT
    assert len(core.granted(job_id)) == 2


def test_a_chunk_that_a_drained_worker_died_on_goes_to_another(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    core.sql(
        "UPDATE chunks SET state = 'running', lease_token = 't', lease_holder = 'worker-1', attempt = 1,"
        " lease_until = now() + interval '1 minute' WHERE id = :id",
        id=chunk_id,
    )
    drain(core)
    assert core.run(chunk_id, holder="worker-after-a-restart") is Ran.NOT_OURS
    core.lease_runs_out(chunk_id)
    core.worker_lives("cpu.1", "worker-2")
    core.look()
    assert [grant.queue for _, grants in core.publisher.waves for grant in grants] == ["cpu.1"]
    assert core.run(chunk_id, queue="cpu.1", holder="worker-2") is Ran.DONE


def test_draining_and_undraining_twice_is_no_error(core: CoreMachine) -> None:
    core.worker_lives()
    first = drain(core)
    assert drain(core).drained_at == first.drained_at
    assert [undrain(core).state, undrain(core).state] == [WorkerState.LIVE, WorkerState.LIVE]


@pytest.mark.parametrize("name", ["cpu.9", "cpu", "cpu.0\0", "", "x" * 10_000, "../cpu.0", "CPU.0"])
def test_an_unknown_name_is_told_with_the_names_that_there_are(core: CoreMachine, name: str) -> None:
    core.worker_lives()
    for verb in (drain, undrain):
        with pytest.raises(NotFound, match=r"the workers are: cpu\.0") as refused:
            verb(core, name)
        assert len(refused.value.message) < 200


def test_workers_are_listed_by_pool_and_number(core: CoreMachine) -> None:
    for number in (10, 2, 0):
        core.worker_lives(f"cpu.{number}", f"worker-{number}")
    core.sql("UPDATE workers SET seen_at = now() - interval '1 hour' WHERE queue = 'cpu.2'")
    listed = list_workers(wiring=core.wiring)
    assert [(worker.queue, worker.state) for worker in listed] == [
        ("cpu.0", WorkerState.LIVE),
        ("cpu.2", WorkerState.SILENT),
        ("cpu.10", WorkerState.LIVE),
    ]
    assert {(worker.pool, worker.host, worker.warm_models) for worker in listed} == {("cpu", "here", ("echo",))}


def test_the_age_is_that_of_the_process_and_not_of_the_name(core: CoreMachine) -> None:
    core.worker_lives()
    core.sql("UPDATE workers SET started_at = now() - interval '1 hour'")
    core.worker_lives()
    assert 3590 < (shown(core).age_s or 0) < 3700
    core.worker_lives(incarnation="worker-after-a-restart")
    assert (shown(core).age_s or 0) < 60
