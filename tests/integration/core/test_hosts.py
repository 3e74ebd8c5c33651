"""A queue belongs to one host at a time."""

from __future__ import annotations

import pytest
from core_machine import CoreMachine

from app.errors import QueueTaken
from app.services.list_workers import list_workers
from app.services.register_worker import register_worker


def beat(core: CoreMachine, host: str, incarnation: str) -> None:
    register_worker(
        database=core.wiring.database,
        queue="cpu.0",
        host=host,
        incarnation=incarnation,
        warm_models=("echo",),
        silence_s=core.wiring.settings.worker_silence_s,
    )


def test_a_second_host_is_refused_for_as_long_as_the_first_is_heard(core: CoreMachine) -> None:
    beat(core, "host-a", "host-a:1")
    with pytest.raises(QueueTaken, match=r"cpu\.0 is served by a live worker on another host"):
        beat(core, "host-b", "host-b:1")
    (worker,) = list_workers(wiring=core.wiring)
    assert (worker.host, worker.incarnation) == ("host-a", "host-a:1")
    core.sql("UPDATE workers SET seen_at = now() - interval '1 hour'")
    beat(core, "host-b", "host-b:1")
    with pytest.raises(QueueTaken):
        beat(core, "host-a", "host-a:1")
    (worker,) = list_workers(wiring=core.wiring)
    assert worker.host == "host-b"


def test_a_worker_that_was_started_again_on_its_host_is_known_at_once(core: CoreMachine) -> None:
    beat(core, "host-a", "host-a:1")
    beat(core, "host-a", "host-a:2")
    (worker,) = list_workers(wiring=core.wiring)
    assert worker.incarnation == "host-a:2"
