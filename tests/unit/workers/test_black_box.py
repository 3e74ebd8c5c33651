"""What a process notes survives it, and one that hangs is ended, whatever it holds."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers import black_box
from workers.black_box import GRACE_S, MOST_ITEMS, BlackBox, Watchdog, is_child_of_this_process

CHUNK = 7


class Child:
    """A forked process that does something with the box and then stays."""

    def __init__(self, box: BlackBox, act: Callable[[BlackBox], None]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                act(box)
                time.sleep(60)
            finally:
                os._exit(0)

    def ended_by(self) -> int:
        """Wait for its end; gives the signal."""
        _, status = os.waitpid(self.pid, 0)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.fixture
def box() -> BlackBox:
    return BlackBox()


@pytest.fixture
def fork(box: BlackBox) -> Iterator[Callable[[Callable[[BlackBox], None]], Child]]:
    children: list[Child] = []

    def start(act: Callable[[BlackBox], None]) -> Child:
        children.append(Child(box, act))
        return children[-1]

    yield start
    for child in children:
        if is_child_of_this_process(child.pid):
            os.kill(child.pid, signal.SIGKILL)
            child.ended_by()


def _die_on(indexes: list[int]) -> Callable[[BlackBox], None]:
    def act(box: BlackBox) -> None:
        box.begin(CHUNK)
        with box.on_device([99], limit_s=60):
            pass
        with box.on_device(indexes, limit_s=60):
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def test_the_items_on_the_device_of_a_dead_process_are_known(box: BlackBox, fork: Callable[..., Child]) -> None:
    assert fork(_die_on([3, 5])).ended_by() == signal.SIGKILL
    words = box.last_words(CHUNK)
    assert words is not None
    assert (words.cause, words.indexes) == (None, {3, 5})
    assert box.last_words(CHUNK + 1) is None


def test_what_this_process_noted_itself_is_no_death(box: BlackBox) -> None:
    box.begin(CHUNK)
    with box.on_device([1], limit_s=60):
        assert box.last_words(CHUNK) is None


def test_a_process_that_died_between_micro_batches_accuses_no_item(box: BlackBox, fork: Callable[..., Child]) -> None:
    def die_beside(box: BlackBox) -> None:
        box.begin(CHUNK)
        with box.on_device([1], limit_s=60):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    fork(die_beside).ended_by()
    words = box.last_words(CHUNK)
    assert words is not None
    assert words.indexes == frozenset()


def test_a_micro_batch_too_large_to_note_accuses_no_item(box: BlackBox, fork: Callable[..., Child]) -> None:
    fork(_die_on(list(range(MOST_ITEMS + 1)))).ended_by()
    words = box.last_words(CHUNK)
    assert words is not None
    assert words.indexes == frozenset()


def test_what_begins_anew_forgets_the_dead(box: BlackBox, fork: Callable[..., Child]) -> None:
    fork(_die_on([3])).ended_by()
    box.begin(CHUNK)
    assert box.last_words(CHUNK) is None


def _hang_with_the_interpreters_lock(box: BlackBox) -> None:
    box.begin(CHUNK)
    with box.on_device([4], limit_s=0.2 - GRACE_S):
        ctypes.PyDLL(None).sleep(60)


def test_a_process_that_hangs_is_ended_and_the_reason_is_known(box: BlackBox, fork: Callable[..., Child]) -> None:
    child = fork(_hang_with_the_interpreters_lock)
    watchdog = Watchdog(box)
    deadline = time.monotonic() + 10
    while not watchdog.look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert child.ended_by() == signal.SIGKILL
    words = box.last_words(CHUNK)
    assert words is not None
    assert (words.cause, words.indexes) == ("item_timeout", {4})
    assert not watchdog.look()  # the dead are left in peace


def test_a_process_whose_other_threads_cannot_run_is_ended_long_before_its_items_time_is_over(
    fork: Callable[..., Child],
) -> None:
    box = BlackBox(deaf_s=0.3)

    def hang(_: BlackBox) -> None:
        box.begin(CHUNK)
        with box.on_device([4], limit_s=300):
            ctypes.PyDLL(None).sleep(60)

    child = fork(hang)
    watchdog = Watchdog(box)
    deadline = time.monotonic() + 10
    while not watchdog.look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert child.ended_by() == signal.SIGKILL


def test_a_process_that_gives_signs_of_life_is_left_alone(box: BlackBox, fork: Callable[..., Child]) -> None:
    def work(box: BlackBox) -> None:
        box.begin(CHUNK)
        with box.on_device([4], limit_s=0.3 - GRACE_S):
            while True:
                box.still_alive()
                time.sleep(0.02)

    child = fork(work)
    watchdog = Watchdog(box)
    for _ in range(25):
        assert not watchdog.look()
        time.sleep(0.04)
    assert is_child_of_this_process(child.pid)


def test_only_children_are_ended() -> None:
    assert not is_child_of_this_process(1)
    assert not is_child_of_this_process(os.getpid())
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        assert is_child_of_this_process(child.pid)
        child.kill()
    assert not is_child_of_this_process(child.pid)


def _eat_memory(box: BlackBox) -> None:
    box.begin(CHUNK)
    with box.on_device([4], limit_s=300):
        eaten = [b"x" * (200 * 2**20)]
        time.sleep(60)
    assert eaten


def _inherited_bytes() -> int:
    """What a child holds from its first moment on: pages of files come to it only when it touches them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(kib) * 1024


def _end_by(watchdog: Watchdog, child: Child) -> int:
    deadline = time.monotonic() + 10
    while not watchdog.look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child.ended_by()


def test_a_process_that_holds_too_much_memory_is_ended_and_the_reason_is_known(
    box: BlackBox, fork: Callable[..., Child]
) -> None:
    child = fork(_eat_memory)
    watchdog = Watchdog(box, memory_limit_bytes=_inherited_bytes() + 100 * 2**20)
    assert _end_by(watchdog, child) == signal.SIGKILL
    words = box.last_words(CHUNK)
    assert words is not None
    assert (words.cause, words.indexes) == ("out_of_memory", {4})


def test_without_a_limit_memory_is_left_to_the_kernel(box: BlackBox, fork: Callable[..., Child]) -> None:
    child = fork(_eat_memory)
    watchdog = Watchdog(box)
    for _ in range(10):
        assert not watchdog.look()
        time.sleep(0.04)
    assert is_child_of_this_process(child.pid)


@pytest.mark.parametrize(("n_kills", "cause"), [(8, "out_of_memory"), (7, None)])
def test_a_death_is_put_down_to_memory_where_the_kernel_killed_somebody_since_the_chunk_was_begun(
    box: BlackBox, fork: Callable[..., Child], monkeypatch: pytest.MonkeyPatch, n_kills: int, cause: str | None
) -> None:
    monkeypatch.setattr(black_box, "count_oom_kills", lambda: 7)
    fork(_die_on([3])).ended_by()
    monkeypatch.setattr(black_box, "count_oom_kills", lambda: n_kills)
    words = box.last_words(CHUNK)
    assert words is not None
    assert (words.cause, words.indexes) == (cause, {3})


def test_a_request_of_the_sync_lane_that_hangs_is_ended_and_the_chunk_beside_it_is_not_blamed(
    fork: Callable[..., Child],
) -> None:
    box = BlackBox(deaf_s=0.3)

    def hang(_: BlackBox) -> None:
        box.begin(CHUNK)
        with box.lane.on_device((), limit_s=300):
            ctypes.PyDLL(None).sleep(60)

    assert _end_by(Watchdog(box), fork(hang)) == signal.SIGKILL
    words = box.last_words(CHUNK)
    assert words is not None
    assert (words.cause, words.indexes, words.blames_the_chunk) == (None, frozenset(), False)


def test_an_item_that_kills_is_blamed_even_if_a_request_was_answered_before(
    box: BlackBox, fork: Callable[..., Child]
) -> None:
    def die(box: BlackBox) -> None:
        with box.lane.on_device((), limit_s=60):
            pass
        _die_on([3])(box)

    fork(die).ended_by()
    words = box.last_words(CHUNK)
    assert words is not None
    assert (words.indexes, words.blames_the_chunk) == ({3}, True)


def test_what_is_known_of_the_second_of_two_chunks_is_kept_while_the_first_is_taken_over(
    box: BlackBox, fork: Callable[[Callable[[BlackBox], None]], Child]
) -> None:
    fork(_die_on([3, 4])).ended_by()
    box.begin(CHUNK + 1)

    words = box.last_words(CHUNK)

    assert words is not None
    assert words.indexes == {3, 4}
    assert box.last_words(CHUNK) is None
