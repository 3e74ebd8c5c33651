"""What engines share that turn items into rows of tokens and each row into numbers: embeddings, scores and classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome, ItemSucceeded
from workers.engines import device_errors
from workers.engines.base import BadItem, Engine, invalid
from workers.engines.token_batches import TokenBatch, cut_by_budget

TOKENS_PER_PASS = {"cpu": 512, "cuda": 65_536}
"""By kind of device, where an engine has not measured what is best."""
RequestT = TypeVar("RequestT")
Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """The tokens of one item."""

    token_ids: list[list[int]]
    second_from: list[int] | None = None
    """For each row where its second text begins; None where rows hold one text."""


@dataclass(slots=True)
class RowWindow(Generic[RequestT]):
    """Checked and tokenised items."""

    items: Sequence[InputItem]
    refused: dict[int, ItemFailed] = field(default_factory=dict)
    requests: dict[int, RequestT] = field(default_factory=dict)
    rows_of: dict[int, range] = field(default_factory=dict)
    """Position -> its row numbers, in the order of its inputs."""
    token_ids: list[list[int]] = field(default_factory=list)
    second_from: list[int] = field(default_factory=list)
    """As of ``Rows``; empty where rows hold one text."""
    batches: list[TokenBatch] = field(default_factory=list)

    def accept(self, position: int, rows: Rows) -> None:
        """Append an item's rows."""
        first = len(self.token_ids)
        self.token_ids.extend(rows.token_ids)
        self.second_from.extend(rows.second_from or ())
        self.rows_of[position] = range(first, len(self.token_ids))


class RowEngine(Engine[RowWindow[RequestT], TokenBatch, Numbers], Generic[RequestT]):
    """One model on one device whose answer to a row is ``width`` numbers."""

    joins_requests = True
    oversized = "input"
    """The parameter that an error about too many tokens names."""
    tokens_per_pass: int
    """Padding counted; never below ``max_tokens``."""

    def __init__(self, *, alias: str, device: str, max_tokens: int, width: int) -> None:
        """Bind what every such model has.

        Args:
            device: ``cpu`` or ``cuda:0``.
            max_tokens: of one row, special tokens counted.
            width: how many numbers a row becomes.
        """
        self._alias = alias
        self._device = torch.device(device)
        self._max_tokens = max_tokens
        self._width = width

    @abstractmethod
    def parse(self, item: InputItem) -> RequestT:
        """Check an item's body.

        Raises:
            BadItem: naming the parameter and what it should hold.
        """

    @abstractmethod
    def tokenised(self, requests: Mapping[int, RequestT]) -> Iterator[tuple[int, Rows]]:
        """Position and rows of every request, in order, whatever their length."""

    @abstractmethod
    def truncated(self, request: RequestT, rows: Rows) -> Rows:
        """The rows, none longer than the model takes; special tokens stay."""

    @abstractmethod
    def numbers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run the model: (n, width).

        Args:
            features: ``input_ids``, ``attention_mask`` and, where rows hold two texts, ``token_type_ids``.
        """

    @abstractmethod
    def body(self, request: RequestT, numbers: Numbers, *, n_tokens: int) -> bytes:
        """Serialise an item's answer.

        Args:
            numbers: float32 (n, width), C-contiguous, rows in the order of the request's inputs.
        """

    def wants_truncation(self, request: RequestT, on_oversize: str) -> bool:  # noqa: ARG002
        """Whether an item that is too long is to be cut."""
        return on_oversize == "truncate"

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> RowWindow[RequestT]:
        """Check all bodies, tokenise all texts in one call, cut by the token budget."""
        window: RowWindow[RequestT] = RowWindow(items=items)
        for position, item in enumerate(items):
            try:
                window.requests[position] = self.parse(item)
            except BadItem as problem:
                window.refused[position] = problem.outcome(item.index)
        for position, rows in self.tokenised(window.requests):
            try:
                window.accept(position, self._within_limit(window.requests[position], rows, on_oversize))
            except BadItem as problem:
                window.refused[position] = problem.outcome(items[position].index)
        owners = [position for position, rows in window.rows_of.items() for _ in rows]
        window.batches = cut_by_budget(
            window.token_ids,
            owners,
            tokens_per_pass=self.tokens_per_pass,
            second_from=window.second_from or None,
        )
        return window

    def forward(
        self,
        batch: TokenBatch,
        *,
        should_stop: Callable[[], bool],  # noqa: ARG002  one batch is short
    ) -> Numbers:
        """Run one batch: float32 (n, width) on the host, rows in the order of ``batch``.

        Raises:
            OutOfDeviceMemory: run the halves instead.
            DeviceLost: the CUDA context is poisoned.
        """
        ids, mask = batch.padded()
        try:
            with torch.inference_mode():
                features = {"input_ids": self._on_device(ids), "attention_mask": self._on_device(mask)}
                if batch.second_from is not None:
                    features["token_type_ids"] = self._on_device(batch.segments())
                numbers: Numbers = self.numbers(features).float().cpu().numpy()
        except RuntimeError as error:
            raise device_errors.named(error, what=f"a batch of {batch.n_tokens} tokens") from error
        return numbers

    def finish(
        self,
        window: RowWindow[RequestT],
        answers: Sequence[tuple[TokenBatch, Numbers]],
        positions: Sequence[int],
    ) -> Iterator[ItemOutcome]:
        """Put each item's rows back together and serialise them."""
        numbers = np.empty((len(window.token_ids), self._width), dtype=np.float32)
        for batch, rows in answers:
            numbers[batch.rows] = rows
        for position in positions:
            yield self._answer(window, position, numbers)

    def _answer(self, window: RowWindow[RequestT], position: int, numbers: Numbers) -> ItemSucceeded:
        rows = window.rows_of[position]
        n_tokens = sum(len(window.token_ids[row]) for row in rows)
        body = self.body(window.requests[position], numbers[rows.start : rows.stop], n_tokens=n_tokens)
        return ItemSucceeded(index=window.items[position].index, body=body, input_tokens=n_tokens, output_tokens=0)

    def _within_limit(self, request: RequestT, rows: Rows, on_oversize: str) -> Rows:
        longest = max(map(len, rows.token_ids))
        if longest <= self._max_tokens:
            return rows
        if self.wants_truncation(request, on_oversize):
            return self.truncated(request, rows)
        if on_oversize != "fail":
            raise invalid(f"on_oversize '{on_oversize}' is not supported here; use 'fail' or 'truncate'")
        raise BadItem(
            ItemErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"'{self.oversized}' has {longest} tokens, {self._alias} takes {self._max_tokens}; shorten it",
        )

    def _on_device(self, values: NDArray[np.int64]) -> torch.Tensor:
        on_host = torch.from_numpy(values)
        if self._device.type == "cpu":
            return on_host
        return on_host.pin_memory().to(self._device, non_blocking=True)
