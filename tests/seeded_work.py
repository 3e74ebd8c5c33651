"""Items of model ``echo`` whose outcomes are known before they run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcome an item must end with."""

    status: str
    code: str | None = None
    body: Any = None
    may_be_stopped: bool = False
    """Whether ``cancelled`` and ``expired`` are right as well: its job was stopped at an unknown moment."""

    def allows(self, got: Expected) -> bool:
        """Whether what an item ended with is right."""
        if self.may_be_stopped and got.status in {"cancelled", "expired"}:
            return True
        return (self.status, self.code, self.body) == (got.status, got.code, got.body)


@dataclass(frozen=True, slots=True)
class SeededItem:
    """One item and its outcome."""

    custom_id: str
    body: Any
    expected: Expected

    def line(self, *, endpoint: str | None = None) -> bytes:
        """The item as an input line: OpenAI's where an endpoint is given, else a native one."""
        envelope = {} if endpoint is None else {"method": "POST", "url": endpoint}
        return orjson.dumps({"custom_id": self.custom_id, **envelope, "body": self.body}) + b"\n"


def good(custom_id: str, *, delay_s: float = 0.0) -> SeededItem:
    """An item that succeeds."""
    said = f"I am {custom_id}"
    return SeededItem(custom_id, _body(said, delay_s=delay_s), Expected("succeeded", body={"echo": said}))


def retried(custom_id: str, *, fail_times: int = 1, code: str = "rate_limited") -> SeededItem:
    """An item that succeeds after some failures that are worth another attempt."""
    said = f"I am {custom_id}"
    return SeededItem(
        custom_id, _body(said, fail=code, fail_times=fail_times), Expected("succeeded", body={"echo": said})
    )


def healed(
    custom_id: str, *, fail_times: int = 1, code: str = "context_length_exceeded", delay_s: float = 0.0
) -> SeededItem:
    """An item that fails for good in the first attempts of its life, and succeeds when it is retried after them."""
    said = f"I am {custom_id}"
    body = _body(said, delay_s=delay_s, fail=code, fail_times=fail_times)
    return SeededItem(custom_id, body, Expected("succeeded", body={"echo": said}))


def failing(custom_id: str, *, code: str = "context_length_exceeded") -> SeededItem:
    """An item on which the engine fails."""
    return SeededItem(custom_id, _body("x", fail=code), Expected("failed", code))


def bad_body(custom_id: str) -> SeededItem:
    """An item whose body the engine cannot take."""
    return SeededItem(custom_id, {"model": "echo"}, Expected("failed", "missing_required_parameter"))


def crashing(custom_id: str) -> SeededItem:
    """An item that kills its worker each time."""
    return SeededItem(custom_id, _body("x", crash=True), Expected("failed", "worker_crash"))


def hanging(custom_id: str) -> SeededItem:
    """An item on which its worker hangs each time."""
    return SeededItem(custom_id, _body("x", hang=True), Expected("failed", "item_timeout"))


def mixed(n_items: int, *, seed: int, delay_s: float = 0.0) -> list[SeededItem]:
    """Items of every kind but the crashing one, mostly good, in an order that follows from the seed."""
    chosen = random.Random(seed)  # noqa: S311 - the same work every time
    kinds = chosen.choices(["good", "retried", "failing", "bad_body"], weights=[85, 5, 5, 5], k=n_items)
    return [_of_kind(kind, f"{seed}-{place}-{kind}", delay_s) for place, kind in enumerate(kinds)]


def input_file(items: Sequence[SeededItem], *, endpoint: str | None = None) -> bytes:
    """The items as JSONL."""
    return b"".join(item.line(endpoint=endpoint) for item in items)


def expected_of(items: Sequence[SeededItem]) -> dict[str, Expected]:
    """custom_id -> outcome."""
    return {item.custom_id: item.expected for item in items}


def _of_kind(kind: str, custom_id: str, delay_s: float) -> SeededItem:
    if kind == "good":
        return good(custom_id, delay_s=delay_s)
    return {"retried": retried, "failing": failing, "bad_body": bad_body}[kind](custom_id)


def _body(said: str, *, delay_s: float = 0.0, **controls: Any) -> dict[str, Any]:
    if delay_s:
        controls["delay_s"] = delay_s
    return {"model": "echo", "input": said, **({"echo": controls} if controls else {})}
