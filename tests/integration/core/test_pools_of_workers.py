"""A chunk runs in any pool of its model that has a worker; workers that take nothing are found."""

from __future__ import annotations

from collections import Counter

import pytest
from core_machine import CoreMachine
from seeded_work import expected_of, good

from app.domain.states import JobState
from app.domain.workers import WorkerState
from app.services.drain_worker import drain_worker
from app.services.list_workers import list_workers
from app.services.run_chunk import Ran
from app.services.scale_pools import scale_pools
from app.services.undrain_worker import undrain_worker

MANY = [good(f"item-{number}") for number in range(40)]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(core: CoreMachine) -> None:
    core.sql("DELETE FROM drains")
    core.sql("DELETE FROM model_rates")
    core.sql("UPDATE chunks SET finished_at = finished_at - interval '1 hour'")  # of the test before, on the same names
    core.dispatcher.database_was_away()  # it forgets what it knew of the test before


def granted_to(core: CoreMachine) -> Counter[str]:
    core.look()
    return Counter(grant.queue for _, grants in core.publisher.take_waves() for grant in grants)


def states(core: CoreMachine) -> dict[str, WorkerState]:
    return {worker.queue: worker.state for worker in list_workers(wiring=core.wiring)}


def test_work_spreads_over_the_pools_of_its_model_two_chunks_a_worker(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    for queue in ("cpu.0", "gpu.0", "moon.0"):
        core.worker_lives(queue, queue)
    assert granted_to(core) == {"cpu.0": 2, "gpu.0": 2}
    assert granted_to(core) == {}
    core.sql("UPDATE chunks SET state = 'pending' WHERE job_id = :id", id=job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of(MANY))


def test_a_job_moves_to_another_pool_of_its_model_when_its_own_has_no_worker_left(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "cpu")
    job_id = core.planned(MANY)
    assert core.job(job_id).pool == "cpu"
    assert granted_to(core) == {"cpu.0": 2}
    drain_worker(wiring=core.wiring, queue="cpu.0")
    assert granted_to(core) == {}
    core.worker_lives("gpu.0", "gpu")
    assert granted_to(core) == {"gpu.0": 2}
    assert core.job(job_id).pool == "gpu"
    undrain_worker(wiring=core.wiring, queue="cpu.0")
    assert granted_to(core) == {"cpu.0": 2}
    assert core.job(job_id).pool == "gpu", "it moved although its pool has a worker"


def test_a_much_slower_pool_only_stands_in(core: CoreMachine) -> None:
    core.sql("INSERT INTO model_rates (model, version, pool, tokens_per_s) VALUES ('echo', 'v1', 'cpu', 100)")
    core.worker_lives("cpu.0", "cpu")
    core.worker_lives("gpu.0", "gpu")
    job_id = core.planned(MANY)
    assert core.job(job_id).pool == "gpu", "planned for the fastest"
    assert granted_to(core) == {"gpu.0": 2}
    core.sql("DELETE FROM workers WHERE queue = 'gpu.0'")
    assert granted_to(core) == {"cpu.0": 2}


def test_a_worker_that_holds_the_model_is_preferred_within_a_pool_and_between_pools(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "cold", warm=())
    core.worker_lives("cpu.1", "warm")
    core.worker_lives("gpu.0", "cold-gpu", warm=())
    core.planned([good("a")])
    assert granted_to(core) == {"cpu.1": 1}
    core.worker_lives("cpu.1", "warm", warm=())
    core.worker_lives("gpu.0", "cold-gpu")
    core.planned([good("b")])
    assert granted_to(core) == {"gpu.0": 1}


def test_a_worker_that_cannot_load_the_model_gets_none_of_its_chunks(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "broken", warm=(), unloadable=("echo",))
    job_id = core.planned(MANY)
    assert granted_to(core) == {}
    core.worker_lives("cpu.1", "well", warm=())
    assert granted_to(core) == {"cpu.1": 2}
    core.worker_lives("cpu.0", "broken", warm=())
    assert granted_to(core) == {"cpu.0": 2}, "it may be worth another try by now"
    assert core.job(job_id).pool == "cpu"


def test_a_worker_that_is_heard_and_takes_nothing_is_stuck_and_others_get_its_chunks(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "wedged")
    job_id = core.planned([good("a")])
    assert granted_to(core) == {"cpu.0": 1}
    core.sql("UPDATE workers SET started_at = now() - interval '1 hour'")
    core.sql("UPDATE chunks SET granted_at = now() - interval '2 minutes' WHERE job_id = :id", id=job_id)
    core.worker_lives("cpu.1", "well")
    assert granted_to(core) == {"cpu.1": 1}
    assert states(core) == {"cpu.0": WorkerState.STUCK, "cpu.1": WorkerState.LIVE}
    (chunk,) = core.chunks(job_id)
    assert core.run(chunk["id"], holder="wedged") is Ran.NOT_OURS
    assert states(core)["cpu.0"] is WorkerState.LIVE, "it took a message, so it is well again"
    assert core.run(chunk["id"], queue="cpu.1", holder="well") is Ran.DONE


def test_a_worker_is_not_stuck_that_runs_a_long_chunk_or_ran_one_a_moment_ago(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "worker-1")
    job_id = core.planned(MANY)
    assert granted_to(core) == {"cpu.0": 2}
    first, *_ = core.chunks(job_id)
    core.sql("UPDATE workers SET started_at = now() - interval '1 hour'")
    core.sql("UPDATE chunks SET granted_at = now() - interval '2 minutes' WHERE state = 'granted'")
    core.sql(
        "UPDATE chunks SET state = 'running', lease_token = 't', lease_holder = 'worker-1', attempt = 1,"
        " claimed_at = now(), lease_until = now() + interval '1 minute' WHERE id = :id",
        id=first["id"],
    )
    core.look()
    assert states(core)["cpu.0"] is WorkerState.LIVE
    core.sql(
        "UPDATE chunks SET state = 'cancelled', lease_token = NULL, finished_at = now() WHERE id = :id", id=first["id"]
    )
    core.look()
    assert states(core)["cpu.0"] is WorkerState.LIVE
    core.worker_lives("cpu.0", "started-anew")
    assert states(core)["cpu.0"] is WorkerState.LIVE


def test_what_is_left_of_the_jobs_of_a_pool_asks_for_workers(core: CoreMachine) -> None:
    def wanted() -> dict[str, tuple[int, int]]:
        with core.wiring.database.begin() as connection:
            scales = scale_pools(connection, settings=core.wiring.settings, models=core.wiring.models)
        return {scale.pool: (scale.n_wanted, scale.n_live) for scale in scales}

    core.worker_lives("cpu.0", "cpu")
    assert wanted() == {"cpu": (0, 1), "gpu": (0, 0)}
    job_id = core.planned(MANY)
    tokens = sum(chunk["estimated_tokens"] for chunk in core.chunks(job_id))
    for seconds, n_wanted in ((1, 1), (1_300, 3), (10**9, core.wiring.settings.scale_max_workers)):
        core.sql("DELETE FROM model_rates")
        core.sql(
            "INSERT INTO model_rates (model, version, pool, tokens_per_s) VALUES ('echo', 'v1', 'cpu', :rate)",
            rate=tokens / seconds,
        )
        assert wanted() == {"cpu": (n_wanted, 1), "gpu": (0, 0)}
    core.sql("DELETE FROM model_rates")
    core.drive(job_id)
    assert wanted()["cpu"] == (0, 1)
