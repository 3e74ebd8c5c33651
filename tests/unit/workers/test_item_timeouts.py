"""An item that keeps the device for too long fails alone, after the time it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from app.domain.items import InputItem, ItemFailed, ItemOutcome, ItemSucceeded
from app.ports import RunRequest, RunStats
from workers.device_lock import DeviceLock
from workers.engines.base import AnyEngine, Engine
from workers.engines.echo import EchoEngine
from workers.pipeline import PipelineRunner
from workers.window_runner import DeviceLimits


@dataclass(frozen=True)
class _Rows:
    positions: Sequence[int]

    def halves(self) -> tuple[_Rows, _Rows] | None:
        middle = len(self.positions) // 2
        return (_Rows(self.positions[:middle]), _Rows(self.positions[middle:])) if middle else None


@dataclass
class _Window:
    items: Sequence[InputItem]
    refused: dict[int, ItemFailed]
    batches: list[_Rows]


class _Deaf(Engine[_Window, _Rows, None]):
    """Takes all items in one pass, each as long as it says, and never asks whether it should stop."""

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> _Window:
        del on_oversize
        return _Window(items, {}, [_Rows(range(len(items)))])

    def finish(self, window: _Window, answers: Any, positions: Sequence[int]) -> Iterator[ItemOutcome]:
        del answers
        for position in positions:
            yield ItemSucceeded(window.items[position].index, b"{}", 1, 0)


class _DeafSleeper(_Deaf):
    def __init__(self, delays_s: Sequence[float]) -> None:
        self._delays_s = delays_s

    def forward(self, batch: _Rows, *, should_stop: Callable[[], bool]) -> None:
        del should_stop
        time.sleep(sum(self._delays_s[position] for position in batch.positions))


class _AttentiveSleeper(_DeafSleeper):
    """Asks while it works; what it has not done then is lost."""

    def forward(self, batch: _Rows, *, should_stop: Callable[[], bool]) -> None:
        from workers.engines.base import Stopped

        ends_at = time.monotonic() + sum(self._delays_s[position] for position in batch.positions)
        while time.monotonic() < ends_at:
            if should_stop():
                raise Stopped
            time.sleep(0.005)


class _One:
    def __init__(self, engine: AnyEngine) -> None:
        self._engine = engine

    def engine(self, **_asked: str) -> AnyEngine:
        return self._engine


def _run(engine: AnyEngine, items: Sequence[InputItem], *, item_timeout_s: float | None) -> dict[int, ItemOutcome]:
    runner = PipelineRunner(_One(engine), DeviceLock())  # type: ignore[arg-type]  # asked only for its one engine
    request = RunRequest(
        endpoint="/v1/x",
        model="m",
        version="1",
        items=iter(items),
        should_stop=lambda: False,
        stats=RunStats(),
        item_timeout_s=item_timeout_s,
    )
    return {outcome.index: outcome for outcome in runner.run(request)}


def _items(n: int, **controls: Any) -> list[InputItem]:
    return [InputItem(index, f"item-{index}", {"input": "x", **controls}, 1) for index in range(n)]


def _codes(outcomes: dict[int, ItemOutcome]) -> list[str]:
    return [
        outcomes[index].code if isinstance(outcomes[index], ItemFailed) else "ok"  # type: ignore[union-attr]
        for index in sorted(outcomes)
    ]


def test_a_long_item_fails_when_its_time_is_over_and_not_later() -> None:
    items = [*_items(2), InputItem(2, "slow", {"input": "x", "echo": {"delay_s": 30}}, 1)]
    started_s = time.monotonic()
    outcomes = _run(EchoEngine(), items, item_timeout_s=0.3)
    assert 0.3 <= time.monotonic() - started_s < 2
    assert _codes(outcomes) == ["ok", "ok", "item_timeout"]


@pytest.mark.parametrize("item_timeout_s", [None, 5.0])
def test_an_item_within_its_time_succeeds(item_timeout_s: float | None) -> None:
    outcomes = _run(EchoEngine(), _items(2, echo={"delay_s": 0.05}), item_timeout_s=item_timeout_s)
    assert _codes(outcomes) == ["ok", "ok"]


def test_many_short_items_in_one_pass_may_take_the_sum_of_their_times() -> None:
    assert set(_codes(_run(_AttentiveSleeper([0.02] * 8), _items(8), item_timeout_s=0.05))) == {"ok"}


@pytest.mark.parametrize("engine", [_DeafSleeper, _AttentiveSleeper])
def test_the_long_one_of_a_pass_is_found_and_its_neighbours_succeed(engine: type[_DeafSleeper]) -> None:
    delays_s = [0.0, 0.0, 1.0, 0.0] if engine is _AttentiveSleeper else [1.0]
    outcomes = _run(engine(delays_s), _items(len(delays_s)), item_timeout_s=0.1)
    assert _codes(outcomes) == (["ok", "ok", "item_timeout", "ok"] if engine is _AttentiveSleeper else ["item_timeout"])


@pytest.mark.parametrize(
    ("item_timeout_s", "n_items", "silence_s"),
    [(None, 5, 300.0), (1.0, 5, 5.0), (100.0, 5, 300.0), (1000.0, 2, 1000.0)],
)
def test_silence_is_borne_as_long_as_the_items_may_take_but_not_for_ever(
    item_timeout_s: float | None, n_items: int, silence_s: float
) -> None:
    assert DeviceLimits(item_timeout_s, 300.0).of_silence(n_items) == silence_s
