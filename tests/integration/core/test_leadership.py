"""One dispatcher leads, another stands by, and NOTIFY wakes the one that leads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from core_machine import CoreMachine, HeldMessages
from running_stack import RunningStack
from seeded_work import expected_of, good

from app.services.dispatch import Dispatcher
from workers.dispatcher import DispatcherProcess, Leadership


def leadership(core: CoreMachine) -> Leadership:
    return Leadership(core.wiring.settings.database_url, connect_timeout_s=5)


def takes_over(standby: Leadership) -> None:
    """The server needs a moment to end the session of the one that left."""
    RunningStack.wait_until(standby.acquire, timeout_s=10, what="the standby to lead")


@pytest.fixture
def pair(core: CoreMachine) -> Iterator[tuple[Leadership, Leadership]]:
    """Two that want to lead, the first of which does."""
    first, second = leadership(core), leadership(core)
    assert first.acquire()
    yield first, second
    first.close()
    second.close()


def test_of_two_one_leads_and_keeps_leading(pair: tuple[Leadership, Leadership]) -> None:
    first, second = pair
    assert [second.acquire(), first.acquire(), second.acquire(), first.acquire()] == [False, True, False, True]


def test_the_other_takes_over_when_the_leader_leaves(pair: tuple[Leadership, Leadership]) -> None:
    first, second = pair
    assert not second.acquire()
    first.close()
    takes_over(second)
    assert not first.acquire()


def test_the_other_takes_over_when_the_leaders_session_is_ended(
    core: CoreMachine, pair: tuple[Leadership, Leadership]
) -> None:
    first, second = pair
    core.sql(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
    )
    with pytest.raises(psycopg2.Error):
        first.acquire()
    assert not first.is_leader
    takes_over(second)
    assert not first.acquire()


def test_the_other_takes_over_from_a_leader_that_is_frozen_and_the_frozen_one_finds_out_when_it_wakes(
    core: CoreMachine,
) -> None:
    first = leadership(core)
    second = Leadership(core.wiring.settings.database_url, connect_timeout_s=5, silence_s=1.0)
    with closing(first), closing(second):
        assert first.acquire()
        for _ in range(8):  # one that speaks is left alone, however long it leads
            time.sleep(0.25)
            assert (first.acquire(), second.acquire()) == (True, False)
        started_s = time.monotonic()
        takes_over(second)
        assert time.monotonic() - started_s > 0.5
        with pytest.raises(psycopg2.Error):
            first.acquire()
        assert not first.acquire()


def test_two_that_lead_at_once_grant_each_chunk_once(core: CoreMachine) -> None:
    items = [good(f"{n}") for n in range(40)]
    job_id = core.planned(items)
    core.worker_lives()
    others = HeldMessages()
    other = Dispatcher(
        settings=core.wiring.settings,
        models=core.wiring.models,
        database=core.wiring.database,
        publisher=others,
    )
    for _ in range(20):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda dispatcher: dispatcher.look(), (core.dispatcher, other)))
        for _, grants in (*core.publisher.take_waves(), *others.take_waves()):
            for grant in grants:
                core.run(grant.chunk_id)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))
    assert {chunk["attempt"] for chunk in core.chunks(job_id)} == {1}


def test_what_the_address_says_beside_the_place_is_heeded(core: CoreMachine) -> None:
    address = f"{core.wiring.settings.database_url}?sslmode=no-such-mode"
    with pytest.raises(psycopg2.OperationalError, match="sslmode"):
        Leadership(address, connect_timeout_s=5).acquire()


def test_a_submitted_job_wakes_the_leader(core: CoreMachine, pair: tuple[Leadership, Leadership]) -> None:
    first, _ = pair
    submitting = threading.Timer(0.2, lambda: core.submit([good("a")]))
    submitting.start()
    started_s = time.monotonic()
    first.wait(30)
    assert time.monotonic() - started_s < 15
    submitting.join()


def test_a_dispatcher_looks_only_while_it_leads(core: CoreMachine, pair: tuple[Leadership, Leadership]) -> None:
    first, second = pair
    job_id = core.submit([good("a")])
    standby = DispatcherProcess(core.wiring.settings, core.dispatcher, second)
    standby._turn()
    assert core.publisher.prepares == []
    first.close()
    takes_over(second)
    standby._turn()
    assert core.publisher.prepares == [job_id]


def test_a_dispatcher_outlives_its_database_session(core: CoreMachine) -> None:
    leader = leadership(core)
    process = DispatcherProcess(core.wiring.settings, core.dispatcher, leader)
    process._turn()
    core.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nightshift-dispatcher'"
        " AND datname = current_database()"
    )
    job_id = core.submit([good("a")])
    for _ in range(5):  # one turn to notice; another where the old session is not over yet
        process._turn()
    leader.close()
    assert core.publisher.prepares == [job_id]
