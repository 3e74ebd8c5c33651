"""What we rely on in Celery's chords, pinned with a real worker on the real broker.

Celery's documentation advises against chords whose headers ignore their results. In 5.7 they work, and they close a
gap: a child that dies between "result stored" and "part counted".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import DEVNULL, Popen
from uuid import uuid4

import pytest
import redis
from celery import Celery, chord
from chord_app import make_app
from kombu import Connection
from running_stack import RunningStack

from config.settings import Settings

TESTS = Path(__file__).parents[1]
wait_until = RunningStack.wait_until


@pytest.fixture(scope="module")
def queue() -> str:
    return f"chords.{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def sender(servers: dict[str, str], queue: str) -> Iterator[Celery]:
    """The app of a worker that serves one queue, which runs meanwhile."""
    settings = Settings.from_environ(servers)
    with Connection(settings.broker_url) as connection, closing(connection.channel()) as channel:
        channel.exchange_declare("nightshift", "direct", durable=True, auto_delete=False)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "CHORD_QUEUE": queue, **servers}
    worker = Popen(
        [sys.executable, str(TESTS / "chord_app.py")], env=environment, cwd=TESTS.parent, stdout=DEVNULL, stderr=DEVNULL
    )
    with make_app(settings, queue) as app:
        yield app
    worker.terminate()
    worker.wait(20)
    with Connection(settings.broker_url) as connection, closing(connection.channel()) as channel:
        channel.queue_delete(queue)


@pytest.fixture
def counters(servers: dict[str, str]) -> Iterator[redis.Redis[bytes]]:
    with redis.Redis.from_url(servers["NIGHTSHIFT_REDIS_URL"]) as client:
        yield client


@pytest.fixture
def bodies(counters: redis.Redis[bytes]) -> Callable[[str], int]:
    """How often the body of a wave ran."""
    return lambda wave: int(counters.get(f"body:{wave}") or 0)


def send(sender: Celery, n_headers: int, *, header: str = "pin.header") -> str:
    wave = uuid4().hex
    headers = [sender.signature(header, kwargs={"wave": wave}, immutable=True) for _ in range(n_headers)]
    chord(headers, sender.signature("pin.body", kwargs={"wave": wave}, immutable=True), app=sender).apply_async()
    return wave


@pytest.mark.parametrize("n_headers", [1, 2, 5])
def test_a_chord_whose_headers_ignore_their_results_calls_its_body_once(
    sender: Celery, counters: redis.Redis[bytes], bodies: Callable[[str], int], n_headers: int
) -> None:
    wave = send(sender, n_headers)
    wait_until(lambda: bodies(wave) > 0, timeout_s=40, what="the body")
    behind = send(sender, 1)
    wait_until(lambda: bodies(behind) > 0, timeout_s=20, what="the body behind it")
    assert bodies(wave) == 1
    assert int(counters.get(f"header:{wave}") or 0) == n_headers


def test_headers_leave_no_result_behind(
    sender: Celery, counters: redis.Redis[bytes], bodies: Callable[[str], int]
) -> None:
    before = set(counters.keys("celery-task-meta-*"))
    wave = send(sender, 3)
    wait_until(lambda: bodies(wave) > 0, timeout_s=20, what="the body")
    assert set(counters.keys("celery-task-meta-*")) == before


def test_a_header_that_returns_early_without_work_counts_as_well(sender: Celery, bodies: Callable[[str], int]) -> None:
    """A chunk that is not ours any more returns a constant; its wave must not wait for it."""
    wave = send(sender, 3, header="pin.nothing")
    wait_until(lambda: bodies(wave) > 0, timeout_s=20, what="the body")


def test_a_task_for_a_queue_that_nobody_declared_is_refused_and_not_lost(sender: Celery) -> None:
    with pytest.raises(Exception, match=r"cpu\.99"):
        sender.send_task("pin.header", kwargs={"wave": "x"}, queue="cpu.99")
