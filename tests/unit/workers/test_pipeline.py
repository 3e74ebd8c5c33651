from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.items import InputItem, ItemFailed, ItemOutcome, ItemSucceeded
from app.errors import ModelNotFound, OutOfDeviceMemory
from app.ports import RunRequest, RunStats
from workers.device_lock import DeviceLock
from workers.engines.base import AnyEngine, DeviceLost, Engine
from workers.engines.echo import EchoEngine
from workers.pipeline import WINDOW_CHARACTERS, PipelineRunner, windows


@dataclass(frozen=True)
class _Rows:
    positions: Sequence[int]
    values: Sequence[str]

    def halves(self) -> tuple[_Rows, _Rows] | None:
        middle = len(self.values) // 2
        if not middle:
            return None
        return (
            _Rows(self.positions[:middle], self.values[:middle]),
            _Rows(self.positions[middle:], self.values[middle:]),
        )


@dataclass
class _Window:
    items: Sequence[InputItem]
    refused: dict[int, ItemFailed] = field(default_factory=dict)
    batches: list[_Rows] = field(default_factory=list)


class _Scripted(Engine[_Window, _Rows, list[str]]):
    """Each input is a list of rows; a row says what happens to the batch it is in."""

    window_items = 16
    rows_per_batch = 5
    capacity = 3

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> _Window:
        window = _Window(items)
        rows: list[tuple[int, str]] = []
        for position, item in enumerate(items):
            if item.body["input"] == ["refuse"]:
                window.refused[position] = ItemFailed(item.index, "invalid_request", on_oversize)
            elif item.body["input"] == ["broken prepare"]:
                raise ZeroDivisionError("prepare")
            else:
                rows.extend((position, row) for row in item.body["input"])
        for start in range(0, len(rows), self.rows_per_batch):
            part = rows[start : start + self.rows_per_batch]
            window.batches.append(_Rows([position for position, _ in part], [row for _, row in part]))
        return window

    def forward(self, batch: _Rows, *, should_stop: Callable[[], bool]) -> list[str]:  # noqa: ARG002
        if "lost" in batch.values:
            raise DeviceLost("gone")
        if "poison" in batch.values:
            raise ValueError("bad data")
        if len(batch.values) > self.capacity or "huge" in batch.values:
            raise OutOfDeviceMemory("too much")
        return [row.upper() for row in batch.values]

    def finish(
        self, window: _Window, answers: Sequence[tuple[_Rows, list[str]]], positions: Sequence[int]
    ) -> Iterator[ItemOutcome]:
        found: dict[int, list[str]] = {position: [] for position in positions}
        for batch, rows in answers:
            for position, row in zip(batch.positions, rows, strict=True):
                if position in found:
                    found[position].append(row)
        for position, rows in found.items():
            yield ItemSucceeded(window.items[position].index, " ".join(sorted(rows)).encode(), len(rows), 0)


class _OneEngine:
    """A registry that holds this engine under every name."""

    def __init__(self, engine: AnyEngine) -> None:
        self._engine = engine

    def engine(self, *, model: str, version: str, endpoint: str) -> AnyEngine:  # noqa: ARG002
        if model == "absent":
            raise ModelNotFound("there is no such model")
        return self._engine


def _runner(engine: AnyEngine) -> PipelineRunner:
    return PipelineRunner(_OneEngine(engine), DeviceLock())  # type: ignore[arg-type]


def _items(inputs: Sequence[Any]) -> list[InputItem]:
    return [InputItem(i, f"item-{i}", {"input": value}, 1) for i, value in enumerate(inputs)]


def _run(
    engine: AnyEngine, items: Any, *, should_stop: Callable[[], bool] = lambda: False, **options: Any
) -> Iterator[ItemOutcome]:
    arguments: dict[str, Any] = {"endpoint": "/v1/x", "model": "m", "version": "v", "stats": RunStats(), **options}
    return _runner(engine).run(RunRequest(items=items, should_stop=should_stop, **arguments))


def _pipeline_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in {"prepare", "device"}]


ROW = st.sampled_from(["a", "b", "c", "poison", "huge"])
INPUTS = st.lists(st.lists(ROW, min_size=1, max_size=8) | st.just(["refuse"]), max_size=60)


@settings(max_examples=60, deadline=None)
@given(inputs=INPUTS)
def test_every_item_has_exactly_one_outcome_and_only_the_item_at_fault_fails(inputs: list[list[str]]) -> None:
    found = list(_run(_Scripted(), iter(_items(inputs))))

    outcomes = {outcome.index: outcome for outcome in found}
    assert len(found) == len(inputs)
    for index, rows in enumerate(inputs):
        outcome = outcomes[index]
        if rows == ["refuse"]:
            assert isinstance(outcome, ItemFailed)
            assert outcome.code == "invalid_request"
        elif {"poison", "huge"} & set(rows):
            assert isinstance(outcome, ItemFailed)
            assert outcome.code in {"internal", "out_of_memory"}
        else:
            assert isinstance(outcome, ItemSucceeded)
            assert outcome.body.decode() == " ".join(sorted(rows)).upper()
    assert _pipeline_threads() == []


def test_out_of_memory_is_reported_only_for_what_does_not_fit_alone() -> None:
    outcomes = {o.index: o for o in _run(_Scripted(), _items([["a", "b", "c", "a", "b"], ["huge"], ["a"]]))}

    assert isinstance(outcomes[0], ItemSucceeded)
    assert isinstance(outcomes[1], ItemFailed)
    assert outcomes[1].code == "out_of_memory"
    assert isinstance(outcomes[2], ItemSucceeded)


def test_a_lost_device_escapes() -> None:
    with pytest.raises(DeviceLost):
        list(_run(_Scripted(), _items([["a"], ["lost"]])))
    assert _pipeline_threads() == []


def test_an_error_while_preparing_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(_run(_Scripted(), _items([["a"], ["broken prepare"]])))
    assert _pipeline_threads() == []


def test_an_error_of_the_reader_reaches_the_caller_after_what_came_before() -> None:
    def broken() -> Iterator[InputItem]:
        yield from _items([["a"]] * 40)
        raise ConnectionError("the object store went away")

    outcomes = _run(_Scripted(), broken())
    with pytest.raises(ConnectionError):
        for _ in outcomes:
            pass
    assert _pipeline_threads() == []


def test_an_error_of_should_stop_reaches_the_caller() -> None:
    def broken() -> bool:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        list(_run(_Scripted(), _items([["a"]]), should_stop=broken))
    assert _pipeline_threads() == []


def test_stopping_keeps_what_is_finished_and_ends_soon() -> None:
    stop = threading.Event()
    inputs: list[Any] = ["first", "second"]
    items = [*_items(inputs), InputItem(9, "slow", {"input": "x", "echo": {"delay_s": 60}}, 1)]
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    started_s = time.monotonic()

    outcomes = list(_run(EchoEngine(), items, should_stop=stop.is_set))

    assert sorted(outcome.index for outcome in outcomes) == [0, 1]
    assert time.monotonic() - started_s < 5
    assert _pipeline_threads() == []
    timer.join()


def test_closing_the_generator_ends_its_threads_even_in_a_delay() -> None:
    endless = (InputItem(i, "x", {"input": "x", "echo": {"delay_s": 0.01}}, 1) for i in iter(int, 1))
    outcomes = _run(EchoEngine(), endless)

    next(outcomes)
    assert _pipeline_threads() != []
    started_s = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]

    assert _pipeline_threads() == []
    assert time.monotonic() - started_s < 5


def test_items_are_read_only_as_fast_as_outcomes_are_taken() -> None:
    n_read = 0

    def counted() -> Iterator[InputItem]:
        nonlocal n_read
        for item in _items([["a"]] * 5_000):
            n_read += 1
            yield item

    outcomes = _run(_Scripted(), counted())
    next(outcomes)
    time.sleep(0.3)

    assert n_read <= 6 * _Scripted.window_items
    assert 1 + sum(1 for _ in outcomes) == 5_000


def test_an_unknown_model_fails_every_item_and_raises_nothing() -> None:
    outcomes = list(_run(_Scripted(), _items([["a"], ["b"]]), model="absent"))

    assert [(o.index, o.code) for o in outcomes if isinstance(o, ItemFailed)] == [
        (0, "model_not_found"),
        (1, "model_not_found"),
    ]


def test_the_oversize_choice_reaches_the_engine() -> None:
    (outcome,) = _run(_Scripted(), _items([["refuse"]]), on_oversize="truncate")

    assert isinstance(outcome, ItemFailed)
    assert outcome.message == "truncate"


def test_device_time_is_counted() -> None:
    stats = RunStats()
    items = [InputItem(i, "x", {"input": "x", "echo": {"delay_s": 0.05}}, 1) for i in range(3)]

    list(_run(EchoEngine(), items, stats=stats))

    assert 0.15 <= stats.device_s < 2


def test_of_two_runs_at_once_the_second_has_the_device_when_the_first_is_done_with_it() -> None:
    runner = _runner(EchoEngine())
    order: list[str] = []

    def run(name: str) -> None:
        items = [InputItem(i, "x", {"input": "x", "echo": {"delay_s": 0.05}}, 1) for i in range(5)]
        request = RunRequest(
            endpoint="/v1/x",
            model="m",
            version="v",
            items=items,
            should_stop=lambda: False,
            stats=RunStats(),
            on_turn=lambda: order.append(f"{name} begins"),
        )
        assert sum(1 for _ in runner.run(request)) == 5
        order.append(f"{name} is finished")

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "another")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    first = order[0].split()[0]
    assert order.index(f"{first} is finished") in {1, 2}
    assert _pipeline_threads() == []


def test_a_run_that_waits_for_the_device_can_be_stopped() -> None:
    runner = _runner(EchoEngine())
    stop = threading.Event()
    arguments: dict[str, Any] = {"endpoint": "/v1/x", "model": "m", "version": "v", "stats": RunStats()}
    slow = [InputItem(0, "x", {"input": "x", "echo": {"delay_s": 60}}, 1)]
    holds = runner.run(RunRequest(items=slow, should_stop=stop.is_set, **arguments))
    thread = threading.Thread(target=lambda: list(holds))
    thread.start()
    time.sleep(0.2)

    assert list(runner.run(RunRequest(items=_items(["y"]), should_stop=lambda: True, **arguments))) == []

    stop.set()
    thread.join(timeout=5)
    assert _pipeline_threads() == []


def test_windows_are_bounded_by_size_as_well_as_by_number() -> None:
    items = _items(["x" * (WINDOW_CHARACTERS // 3)] * 10 + ["y"] * 700)

    cut = list(windows(items, most_items=300))

    assert [item for window in cut for item in window] == items
    assert max(map(len, cut)) <= 300
    assert max(sum(len(item.body["input"]) for item in window) for window in cut) <= WINDOW_CHARACTERS
