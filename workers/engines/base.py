"""What an engine is: prepare (CPU), forward (device), finish (CPU).

The three steps run in different threads of one process, so that the device never waits for JSON. An engine
touches neither the database nor the object store, and a bad item never makes it raise: it is refused with an
item error code, and its neighbours run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome
from app.errors import DependencyFailed, EngineFailed


class ModelUnloadable(DependencyFailed):
    """The model's files are missing or unfit for this device: no item is at fault, mend the installation."""

    code = "model_unloadable"


class DeviceLost(EngineFailed):
    """The device or its context is gone; only a new process can use it again."""

    code = "device_lost"
    retryable = True


class Batch(Protocol):
    """What the device takes in one pass."""

    @property
    def positions(self) -> Sequence[int]:
        """Positions in the window of the items that have a part in this batch."""
        ...

    def halves(self) -> tuple[Self, Self] | None:
        """Cut in two, so that a failure can be narrowed down; None when it cannot be cut further."""
        ...


class Stopped(Exception):
    """A forward step ended early, because ``should_stop()`` became true or because nothing more can be had.

    Its batch has no answer, unless ``kept`` is a part of it with the answer to that part.
    """

    def __init__(self, kept: tuple[Batch, Any] | None = None) -> None:
        super().__init__()
        self.kept = kept


class Unfinished:
    """What a forward step returns that needs the device again for its batch; in between others may have it."""


UNFINISHED = Unfinished()


class Window(Protocol):
    """A bounded run of items, ready for the device."""

    @property
    def items(self) -> Sequence[InputItem]:
        """The items, in input order; a position is an index into them."""
        ...

    @property
    def refused(self) -> dict[int, ItemFailed]:
        """Position -> why the item will not run."""
        ...

    @property
    def batches(self) -> Sequence[Any]:
        """Device passes, in the order to run; refused items have no part in them."""
        ...


WindowT = TypeVar("WindowT", bound=Window)
BatchT = TypeVar("BatchT", bound=Batch)
AnswerT = TypeVar("AnswerT")


class Engine(ABC, Generic[WindowT, BatchT, AnswerT]):
    """One loaded model. ``prepare`` and ``finish`` are thread-safe, on a CPU ``forward`` is too; on another device one
    thread at a time calls it.
    """

    uses_device: bool = True
    """False: ``forward`` needs no device, so nobody has to wait for it."""
    joins_requests: bool = False
    """Whether requests of several clients may run as one window, because each takes about as long as all."""
    takes_long: bool = False
    """Whether a request may take seconds, so that those of other clients are answered beside it."""
    keeps_item_timeout: bool = False
    """Whether the engine itself ends an item that takes too long, see ``within``; else its batches are timed."""
    window_items: int = 2048
    """Items prepared together at most: enough to sort by length, few enough for memory."""

    def within(self, item_timeout_s: float | None) -> Engine[WindowT, BatchT, AnswerT]:  # noqa: ARG002
        """The engine for items that may take so long each; itself unless it ``keeps_item_timeout``."""
        return self

    def serving(self, endpoint: str) -> Engine[WindowT, BatchT, AnswerT]:  # noqa: ARG002
        """The engine as it answers one of its routes; itself unless it has several."""
        return self

    def urgent(self) -> Engine[WindowT, BatchT, AnswerT]:
        """The engine for requests that somebody waits for; itself unless it has a queue of its own."""
        return self

    @abstractmethod
    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> WindowT:
        """Check bodies, turn them into device input and cut that into batches.

        Args:
            on_oversize: ``fail`` or ``truncate`` inputs above the model's limit.
        """

    @abstractmethod
    def forward(self, batch: BatchT, *, should_stop: Callable[[], bool]) -> AnswerT | Unfinished:
        """Run one batch on the device, or a part of the way: while it returns ``UNFINISHED`` it is called again.

        Raises:
            OutOfDeviceMemory: run its halves instead.
            DeviceLost: this process cannot go on.
            Stopped: ``should_stop()`` became true on the way.
            Exception: anything else is taken to lie in the data; its halves are tried.
        """

    @abstractmethod
    def finish(
        self, window: WindowT, answers: Sequence[tuple[BatchT, AnswerT]], positions: Sequence[int]
    ) -> Iterator[ItemOutcome]:
        """Yield one outcome for each of ``positions``, all of whose batches are in ``answers``."""


AnyEngine = Engine[Any, Any, Any]


class BadItem(Exception):
    """An item's body is wrong. Raised and caught inside an engine's ``prepare``."""

    def __init__(self, code: ItemErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def outcome(self, index: int) -> ItemFailed:
        """The outcome of the item at ``index`` of the input."""
        return ItemFailed(index=index, code=self.code, message=self.message)


def invalid(message: str) -> BadItem:
    """The commonest refusal: a value is of the wrong type or out of range."""
    return BadItem(ItemErrorCode.INVALID_REQUEST, message)


def required_input(body: dict[str, Any]) -> Any:
    """The body's ``input``.

    Raises:
        BadItem: it is absent or null.
    """
    value = body.get("input")
    if value is None:
        raise BadItem(ItemErrorCode.MISSING_REQUIRED_PARAMETER, "'input' is missing: give the text to run")
    return value
