from __future__ import annotations

import threading

import pytest

from workers.device_lock import URGENT_IN_A_ROW, DeviceLock


class _Queue:
    """Starts passes while the lock is held, then records in which order they get it."""

    def __init__(self, lock: DeviceLock) -> None:
        self._lock = lock
        self._threads: list[threading.Thread] = []
        self.order: list[str] = []

    def add(self, kind: str) -> None:
        hold = self._lock.urgent if kind == "urgent" else self._lock.bulk

        def take() -> None:
            with hold():
                self.order.append(kind)

        n_waiting = self._n_waiting()
        thread = threading.Thread(target=take)
        self._threads.append(thread)
        thread.start()
        while self._n_waiting() == n_waiting:
            pass

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=10)

    def _n_waiting(self) -> int:
        return self._lock._urgent_waiting + self._lock._bulk_waiting


def test_an_urgent_pass_goes_before_a_bulk_pass_that_came_first() -> None:
    lock = DeviceLock()
    queue = _Queue(lock)

    with lock.bulk():
        queue.add("bulk")
        queue.add("urgent")
    queue.join()

    assert queue.order == ["urgent", "bulk"]


def test_a_waiting_chunk_gets_its_turn_among_endless_urgent_passes() -> None:
    lock = DeviceLock()
    queue = _Queue(lock)

    with lock.bulk():
        queue.add("bulk")
        for _ in range(3 * URGENT_IN_A_ROW):
            queue.add("urgent")
    queue.join()

    assert len(queue.order) == 1 + 3 * URGENT_IN_A_ROW
    assert queue.order.index("bulk") == URGENT_IN_A_ROW


def test_a_pass_that_fails_gives_the_device_back() -> None:
    lock = DeviceLock()

    for hold in (lock.urgent, lock.bulk):
        with pytest.raises(ZeroDivisionError), hold():
            1 / 0  # noqa: B018

    with lock.bulk():
        pass


def test_the_device_has_one_user_at_a_time() -> None:
    lock = DeviceLock()
    inside = 0
    most_inside = 0

    def use(*, urgent: bool) -> None:
        nonlocal inside, most_inside
        for _ in range(200):
            with lock.urgent() if urgent else lock.bulk():
                inside += 1
                most_inside = max(most_inside, inside)
                inside -= 1

    threads = [threading.Thread(target=use, kwargs={"urgent": number % 2 == 0}) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert (inside, most_inside) == (0, 1)


def test_on_a_shared_device_an_urgent_pass_runs_beside_a_bulk_pass_and_the_next_bulk_pass_waits() -> None:
    lock = DeviceLock(shared=True)
    queue = _Queue(lock)

    with lock.bulk(), lock.urgent():
        pass  # alone it would wait here for ever
    with lock.urgent():
        queue.add("bulk")
        assert queue.order == []
    queue.join()

    assert queue.order == ["bulk"]
