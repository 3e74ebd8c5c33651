"""An engine without a model: answers ``{"echo": input}``, for orchestration benchmarks and tests.

As a chat model (``echo_chat``) it says what was said last, so that clients can be tried without one.

An item may carry controls in ``body["echo"]``: ``delay_s`` (sleep first), ``fail`` (end with this item error
code), ``fail_times`` (only on the first n attempts of the item's life; absent: always), ``crash`` (kill the
process with SIGSEGV, as a broken native library would), ``hang`` (never come back, as native code that holds the
interpreter's lock and waits for ever).

Tokens: one for every four characters begun of a text input, or of the JSON of any other input; none come out.
"""

from __future__ import annotations

import ctypes
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome, ItemSucceeded
from app.domain.message_batches import CHAT_ENDPOINT
from workers.engines.base import BadItem, Engine, Stopped, invalid, required_input
from workers.engines.echo_chat import CHARACTERS_PER_TOKEN, answer_chat, check_chat

MAX_DELAY_S = 3600.0
HANG_S = 3600
STOP_LOOK_S = 0.05
_CONTROLS = frozenset({"delay_s", "fail", "fail_times", "crash", "hang"})
_CODES = frozenset(code.value for code in ItemErrorCode)


@dataclass(frozen=True, slots=True)
class EchoBatch:
    """Items to echo together; one with a control stands alone."""

    positions: Sequence[int]
    delay_s: float = 0.0
    crash: bool = False
    hang: bool = False

    def halves(self) -> tuple[Self, Self] | None:
        """Never needed: nothing in ``forward`` fails because of the data."""
        return None


@dataclass(slots=True)
class EchoWindow:
    """Checked items."""

    items: Sequence[InputItem]
    refused: dict[int, ItemFailed] = field(default_factory=dict)
    told_to_fail: dict[int, ItemErrorCode] = field(default_factory=dict)
    batches: list[EchoBatch] = field(default_factory=list)


class EchoEngine(Engine[EchoWindow, EchoBatch, None]):
    """Echoes."""

    uses_device = False
    window_items = 4096

    def __init__(
        self,
        *,
        check: Callable[[dict[str, Any]], object] | None = None,
        answer: Callable[[InputItem], ItemOutcome] | None = None,
    ) -> None:
        """Echo inputs, or whatever else is asked for.

        Args:
            check: raises BadItem for a body that there is no answer to.
            answer: of a body that was checked.
        """
        self._check = check or required_input
        self._answer = answer or _echo

    def serving(self, endpoint: str) -> EchoEngine:
        """See ``Engine.serving``."""
        return EchoEngine(check=check_chat, answer=answer_chat) if endpoint == CHAT_ENDPOINT else self

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> EchoWindow:  # noqa: ARG002
        """Check every body; plain items go into one batch, each item with controls into its own."""
        window = EchoWindow(items=items)
        plain: list[int] = []
        for position, item in enumerate(items):
            try:
                self._check(item.body)
                if item.body.get("echo") is None:
                    plain.append(position)
                else:
                    _plan_controlled(window, position, item)
            except BadItem as problem:
                window.refused[position] = problem.outcome(item.index)
        if plain:
            window.batches.insert(0, EchoBatch(positions=plain))
        return window

    def forward(self, batch: EchoBatch, *, should_stop: Callable[[], bool]) -> None:
        """Sleep, crash or hang, if told so."""
        _sleep(batch.delay_s, should_stop)
        if batch.crash:
            # To this very thread, as a broken library would: sent to the process, it comes a moment later.
            signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
        if batch.hang:
            ctypes.PyDLL(None).sleep(HANG_S)  # called with the interpreter's lock held

    def finish(
        self,
        window: EchoWindow,
        answers: Sequence[tuple[EchoBatch, None]],  # noqa: ARG002
        positions: Sequence[int],
    ) -> Iterator[ItemOutcome]:
        """Serialise the answers."""
        items, told_to_fail = window.items, window.told_to_fail
        for position in positions:
            if position in told_to_fail:
                yield _told_failure(items[position], told_to_fail[position])
            else:
                yield self._answer(items[position])


def _plan_controlled(window: EchoWindow, position: int, item: InputItem) -> None:
    controls = _checked_controls(item.body["echo"])
    window.batches.append(
        EchoBatch(
            positions=[position],
            delay_s=float(controls.get("delay_s", 0)),
            crash=controls.get("crash", False),
            hang=controls.get("hang", False),
        )
    )
    fails = "fail_times" not in controls or item.attempt <= controls["fail_times"]
    if "fail" in controls and fails:
        window.told_to_fail[position] = ItemErrorCode(controls["fail"])


def _checked_controls(controls: Any) -> dict[str, Any]:
    if not isinstance(controls, dict):
        raise invalid("'echo' must be an object of controls")
    unknown = sorted(controls.keys() - _CONTROLS)
    if unknown:
        raise invalid(f"'echo.{unknown[0]}' is no control; known ones: {', '.join(sorted(_CONTROLS))}")
    if not _is_delay(controls.get("delay_s", 0)):
        raise invalid(f"'echo.delay_s' must be a number of seconds from 0 to {MAX_DELAY_S:g}")
    if "fail" in controls and not (isinstance(controls["fail"], str) and controls["fail"] in _CODES):
        raise invalid(f"'echo.fail' must be an item error code: {', '.join(sorted(_CODES))}")
    if "fail_times" in controls and not _is_count(controls["fail_times"]):
        raise invalid("'echo.fail_times' must be a whole number, 0 or more")
    for name in ("crash", "hang"):
        if not isinstance(controls.get(name, False), bool):
            raise invalid(f"'echo.{name}' must be true or false")
    return controls


def _is_delay(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= MAX_DELAY_S
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _sleep(delay_s: float, should_stop: Callable[[], bool]) -> None:
    if delay_s <= 0:
        return
    ends_at = time.monotonic() + delay_s
    while (left_s := ends_at - time.monotonic()) > 0:
        if should_stop():
            raise Stopped
        time.sleep(min(left_s, STOP_LOOK_S))


def _echo(item: InputItem) -> ItemOutcome:
    value = item.body["input"]
    try:
        body = orjson.dumps({"echo": value})
    except TypeError as error:
        return invalid(f"'input' cannot be written as JSON: {error}").outcome(item.index)
    size = len(value) if isinstance(value, str) else len(body) - len(b'{"echo":}')
    n_tokens = -(-size // CHARACTERS_PER_TOKEN)
    return ItemSucceeded(index=item.index, body=body, input_tokens=n_tokens, output_tokens=0)


def _told_failure(item: InputItem, code: ItemErrorCode) -> ItemFailed:
    return ItemFailed(index=item.index, code=code, message=f"failed on attempt {item.attempt} as 'echo.fail' asked")
