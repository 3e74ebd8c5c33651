"""Runs an engine over items in a few lines, the way the pipeline does."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.domain.items import InputItem, ItemFailed, ItemOutcome, ItemSucceeded
from app.ports import RunStats
from workers.device_lock import DeviceLock
from workers.engines.base import AnyEngine
from workers.window_runner import WindowRunner


def items_of(bodies: Sequence[dict[str, Any]], *, attempt: int = 1) -> list[InputItem]:
    return [InputItem(i, f"item-{i}", body, attempt) for i, body in enumerate(bodies)]


def run(engine: AnyEngine, bodies: Sequence[dict[str, Any]], *, on_oversize: str = "fail") -> list[ItemOutcome]:
    """Outcomes in input order."""
    runner = WindowRunner(engine, hold_device=DeviceLock().bulk, should_stop=lambda: False, stats=RunStats())
    outcomes = runner.finish(runner.forward(engine.prepare(items_of(bodies), on_oversize=on_oversize)))
    return sorted(outcomes, key=lambda outcome: outcome.index)


def answer(outcome: ItemOutcome) -> dict[str, Any]:
    assert isinstance(outcome, ItemSucceeded), outcome
    document: dict[str, Any] = orjson.loads(outcome.body)
    return document


def failure(outcome: ItemOutcome) -> ItemFailed:
    assert isinstance(outcome, ItemFailed), outcome
    return outcome


def vectors(outcome: ItemOutcome) -> NDArray[np.float32]:
    """(n, d) embeddings of one answer, whichever encoding."""
    rows = [entry["embedding"] for entry in answer(outcome)["data"]]
    decoded = [np.frombuffer(base64.b64decode(row), "<f4") if isinstance(row, str) else row for row in rows]
    return np.array(decoded, dtype=np.float32)
