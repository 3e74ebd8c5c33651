"""The dispatcher's look: makes the broker match the rows, whatever was lost."""

from __future__ import annotations

import pytest
from core_machine import CoreMachine
from seeded_work import expected_of, failing, good, mixed

from app.domain.states import JobState
from app.errors import BrokerUnavailable
from app.services.dispatch import Patience
from app.services.finish_job import Finished
from app.services.grant_chunks import CHUNKS_PER_WORKER, free_slots

MANY = [good(f"item-{number}") for number in range(40)]


def granted_ids(core: CoreMachine) -> list[int]:
    return [grant.chunk_id for _, grants in core.publisher.waves for grant in grants]


def test_a_new_job_is_sent_to_be_prepared_and_not_again_at_once(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    core.look()
    core.look()
    assert core.publisher.prepares == [job_id]


def test_no_more_is_published_than_a_few_chunks_for_each_live_worker(core: CoreMachine) -> None:
    core.planned(MANY)
    core.look()
    assert core.publisher.waves == []
    core.worker_lives("cpu.0")
    core.worker_lives("cpu.1", "worker-2")
    for _ in range(3):
        core.look()
    assert len(granted_ids(core)) == 2 * CHUNKS_PER_WORKER
    assert {grant.queue for _, grants in core.publisher.waves for grant in grants} == {"cpu.0", "cpu.1"}


def test_what_a_purged_queue_lost_is_published_again(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    first = core.granted(job_id)
    core.publisher.loses_everything = True
    core.look()
    assert core.publisher.waves == []  # it may still be on its way
    core.patience_ends()
    core.worker_lives()
    core.look()
    assert sorted(granted_ids(core)) == sorted(first)


def test_what_waits_in_its_queue_is_not_published_again(core: CoreMachine) -> None:
    core.planned(MANY)
    core.worker_lives()
    core.look()
    n_published = len(granted_ids(core))
    core.patience_ends()
    core.look()
    assert len(granted_ids(core)) == n_published


def test_a_dispatcher_that_dies_between_commit_and_publish_loses_nothing(core: CoreMachine) -> None:
    items = mixed(10, seed=5)
    job_id = core.planned(items)
    core.worker_lives()

    def broken() -> None:
        raise BrokerUnavailable("the broker did not take a message")

    core.publisher.fails = broken
    with pytest.raises(BrokerUnavailable):
        core.look()
    assert {chunk["state"] for chunk in core.chunks(job_id)} >= {"granted"}
    core.publisher.fails = lambda: None
    core.patience_ends()
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_chunks_of_a_silent_worker_go_to_another(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    core.granted(job_id)
    core.sql("UPDATE workers SET seen_at = now() - interval '1 hour'")
    core.worker_lives("cpu.7", "worker-7")
    core.patience_ends()
    core.look()
    assert [grant.queue for _, grants in core.publisher.waves for grant in grants] == ["cpu.7"]


def test_a_chunk_whose_lease_ran_out_is_granted_again_and_counts_a_death(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    core.sql(
        "UPDATE chunks SET state = 'running', lease_token = 't', lease_holder = 'gone', attempt = 1,"
        " lease_until = now() - interval '1 second' WHERE id = :id",
        id=chunk_id,
    )
    assert core.granted(job_id) == [chunk_id]
    assert core.chunk(chunk_id)["worker_deaths"] == 1


def test_a_worker_that_was_only_cut_off_does_not_count_as_dead(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    core.worker_lives(incarnation="cut-off")
    core.sql(
        "UPDATE chunks SET state = 'running', lease_token = 't', lease_holder = 'cut-off', attempt = 1,"
        " lease_until = now() - interval '1 second' WHERE id = :id",
        id=chunk_id,
    )
    core.look()
    assert core.chunk(chunk_id)["worker_deaths"] == 0
    assert core.chunk(chunk_id)["lease_token"] is None


def test_leases_that_ran_out_while_the_database_was_away_are_left_alone_for_a_moment(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    core.sql(
        "UPDATE chunks SET state = 'running', lease_token = 't', lease_holder = 'gone', attempt = 1,"
        " lease_until = now() - interval '1 second' WHERE id = :id",
        id=chunk_id,
    )
    core.dispatcher.database_was_away()
    core.look()
    assert core.chunk(chunk_id)["lease_token"] == "t"


def test_a_chunk_waits_for_its_moment(core: CoreMachine) -> None:
    job_id = core.planned([failing("a", code="rate_limited")])
    core.run(core.granted(job_id)[0])
    assert core.granted(job_id) == []
    core.waiting_is_over(job_id)
    assert len(core.granted(job_id)) == 1


def test_a_lost_callback_is_made_up_for_and_a_fresh_one_waited_for(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    core.run(core.granted(job_id)[0])
    core.look()
    assert core.publisher.finishes == []
    core.patience_ends()
    core.look()
    assert core.publisher.finishes == [job_id]
    assert core.finish(job_id) is Finished.FINISHED


def test_a_finaliser_that_died_half_way_is_followed_by_another(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    core.run(core.granted(job_id)[0])
    core.sql("UPDATE jobs SET state = 'finalizing', finalizing_at = now() WHERE id = :id", id=job_id)
    core.sql("UPDATE events SET data = data WHERE job_id = :id", id=job_id)
    core.patience_ends()
    core.look()
    assert core.publisher.finishes == [job_id]
    assert core.finish(job_id) is Finished.FINISHED
    assert core.job(job_id).state is JobState.SUCCEEDED


def test_nothing_is_asked_for_again_without_more_patience_each_time() -> None:
    patience = Patience(1000.0)
    assert patience.due(["a", "b"]) == ["a", "b"]
    assert patience.due(["a", "b", "c"]) == ["c"]
    assert patience.due([]) == []
    assert patience.due(["a"]) == ["a"]


def test_free_slots_fill_the_emptiest_queue_first() -> None:
    assert free_slots({"cpu.0": 0, "cpu.1": 1, "cpu.2": 2}) == ["cpu.0", "cpu.0", "cpu.1"]
    assert free_slots({}) == []
