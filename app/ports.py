"""What the core asks of the outside, as protocols. Adapters live beside what they adapt.

An adapter turns its vendor's errors into ours at its own line, with the cause kept, and gives every network
call a connect and a read timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol

from app.domain.items import InputItem, ItemOutcome


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is durably stored."""

    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    key: str
    size_bytes: int
    modified_at: datetime


class ObjectReader(Protocol):
    """An open object; bytes come as they arrive from the store."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, b"" at the end.

        Raises:
            StorageUnavailable: the connection broke or the object came short.
        """
        ...


class ObjectStore(Protocol):
    """A bucket. Keys are made by the server and never hold a client's text."""

    def put(self, key: str, source: BinaryIO, *, size_bytes: int | None = None) -> StoredObject:
        """Store all of ``source``, holding at most one part of it in memory; hash it on the way.

        Args:
            size_bytes: its length where known; a source that ends early is refused and leaves no object.
        Raises:
            StorageUnavailable: nothing was stored.
        """
        ...

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractContextManager[ObjectReader]:
        """Open ``length`` bytes from ``start``; reading raises where the object holds fewer.

        Raises:
            ObjectMissing: there is no such key.
            StorageUnavailable: the store did not answer.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys; a key that is not there is no error."""
        ...

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """All objects under a prefix, in the order of their keys."""
        ...

    def abort_uploads(self, prefix: str, *, before: datetime) -> int:
        """Drop the parts of uploads under a prefix that began before a moment and were never completed.

        Returns:
            How many uploads; one call drops up to a thousand.
        """
        ...

    def check(self) -> None:
        """Raise StorageUnavailable unless the bucket answers."""
        ...


@dataclass(slots=True)
class RunStats:
    """What a run of the engine cost, filled in while it runs."""

    device_s: float = 0.0
    """Seconds in which the device computed for this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Items for an engine, and how it is to run them."""

    endpoint: str
    model: str
    version: str
    items: Iterable[InputItem]
    """Read once, by another thread than the caller's."""
    should_stop: Callable[[], bool]
    """Asked between micro-batches by the device's thread; must be quick and thread-safe."""
    stats: RunStats
    """Filled in while the items run."""
    on_oversize: str = "fail"
    item_timeout_s: float | None = None
    """An item that keeps the device for longer fails as ``item_timeout``; a micro-batch may take the sum of its
    items. None for as long as it takes."""
    on_turn: Callable[[], None] = lambda: None
    """Called by the device's thread when the device is this run's, until all its items have run."""


class ItemRunner(Protocol):
    """The engines, seen from the core."""

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        """Yield exactly one outcome per item, in any order; fewer only once ``should_stop()`` is true."""
        ...


@dataclass(frozen=True, slots=True)
class LastWords:
    """What a worker process was doing to a chunk when it ended."""

    cause: str | None
    """The item error code that its end means; None where nothing is known but that it died."""
    indexes: frozenset[int]
    """The items it had on its device; empty where it had none, or too many to note."""
    blames_the_chunk: bool = True
    """False: something else on the device ended it, and nothing of the chunk."""


class DeathNotes(Protocol):
    """What outlives a worker process, for the one that is put in its place."""

    def last_words(self, chunk_id: int) -> LastWords | None:
        """What the process before this one was doing to a chunk; None where it did nothing to it."""
        ...

    def begin(self, chunk_id: int) -> None:
        """Note from now on what this process does to a chunk."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """A chunk that may run now, and where."""

    chunk_id: int
    queue: str
    grant: int


class WorkPublisher(Protocol):
    """The only way work gets into the broker."""

    def publish_prepare(self, job_id: str) -> None:
        """Ask a control worker to validate and plan a job.

        Raises:
            BrokerUnavailable: the message was not confirmed.
        """
        ...

    def publish_lead(self, group_id: str) -> None:
        """Ask a control worker to lead a group on.

        Raises:
            BrokerUnavailable: the message was not confirmed.
        """
        ...

    def publish_webhook(self, delivery_id: str) -> None:
        """Ask a webhook worker to send a delivery, and what else is due for its receiver.

        Raises:
            BrokerUnavailable: the message was not confirmed.
        """
        ...

    def publish_wave(self, job_id: str, grants: Sequence[Grant]) -> None:
        """Send the granted chunks of one job as one chord whose body is the job's ``finish_wave``.

        Raises:
            BrokerUnavailable: some messages may have been sent; sending them again is harmless.
        """
        ...

    def publish_finish(self, job_id: str) -> None:
        """Ask a control worker to look whether a job can be finalised."""
        ...

    def ready_counts(self, queues: Sequence[str]) -> dict[str, int]:
        """Messages that wait in each queue, not counting those a worker holds."""
        ...


class SyncLane(Protocol):
    """Answers a request while the client waits."""

    def call(self, *, pool: str, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send ``request`` to any worker of ``pool`` and wait for its reply.

        Raises:
            SyncTimedOut: no reply in time.
            NoWorkerForModel: nobody listens there.
            BrokerUnavailable: the broker did not take it.
        """
        ...
