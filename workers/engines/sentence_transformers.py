"""Embeddings by any sentence-transformers model: its library loads the model, the batching is ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome, ItemSucceeded
from app.errors import OutOfDeviceMemory
from config.models import ModelSpec, ModelVersion
from workers.engines.base import BadItem, DeviceLost, Engine, ModelUnloadable, invalid
from workers.engines.embedding_request import EmbeddingRequest, embedding_response, parse_embedding_request
from workers.engines.int8 import quantise_linears
from workers.engines.packed_linear import pack_linears
from workers.engines.token_batches import TokenBatch, cut_by_budget
from workers.engines.tuning import PassSizes

TOKENS_PER_PASS_CPU = 512
TOKENS_PER_PASS_CUDA = 65_536
"""Taken where nothing was measured; ``settle_pass_size`` finds out what is best."""
PASS_SIZES_CPU = (256, 512, 1024, 2048)
PASS_SIZES_CUDA = tuple(1 << power for power in range(13, 19))
TRIAL_ROW_TOKENS = 32
"""Length of a row while sizes are measured: a short text, of which there are the most rows in a pass."""


@dataclass(slots=True)
class EmbeddingWindow:
    """Checked and tokenised items."""

    items: Sequence[InputItem]
    refused: dict[int, ItemFailed] = field(default_factory=dict)
    requests: dict[int, EmbeddingRequest] = field(default_factory=dict)
    rows_of: dict[int, range] = field(default_factory=dict)
    """Position -> its row numbers, in the order of its inputs."""
    token_ids: list[list[int]] = field(default_factory=list)
    batches: list[TokenBatch] = field(default_factory=list)

    def accept(self, position: int, rows: list[list[int]]) -> None:
        """Append an item's token rows."""
        first = len(self.token_ids)
        self.token_ids.extend(rows)
        self.rows_of[position] = range(first, len(self.token_ids))


class SentenceTransformersEngine(Engine[EmbeddingWindow, TokenBatch, NDArray[np.float32]]):
    """One model on one device."""

    joins_requests = True

    def __init__(self, spec: ModelSpec, version: ModelVersion, *, device: str) -> None:
        """Load the model.

        Args:
            device: ``cpu`` or ``cuda:0``.
        Raises:
            ModelUnloadable: the files are missing, or this version cannot run on the device.
        """
        self._alias = spec.alias
        self._names = (spec.alias, version.name, str(version.package), str(version.path), version.precision)
        self._max_tokens = spec.max_input_tokens
        self._model = _load(version, device=device)
        self._device = torch.device(device)
        self._dimensions = _embedding_length(self._model, spec)
        self._tokenizer, self._truncating = _tokenizers(self._model, spec.max_input_tokens)
        self._vocabulary_size = self._tokenizer.get_vocab_size()
        on_cuda = self._device.type == "cuda"
        self.tokens_per_pass = max(TOKENS_PER_PASS_CUDA if on_cuda else TOKENS_PER_PASS_CPU, self._max_tokens)
        self.window_items = 4096 if on_cuda else 2048

    def settle_pass_size(self, sizes: PassSizes) -> None:
        """Take as many tokens a pass as this machine runs best, which the first start measures."""
        on_cuda = self._device.type == "cuda"
        what = torch.cuda.get_device_name(self._device) if on_cuda else torch.backends.cpu.get_cpu_capability()
        candidates = [size for size in (PASS_SIZES_CUDA if on_cuda else PASS_SIZES_CPU) if size >= self._max_tokens]
        names = [*self._names, what, str(torch.get_num_threads()), torch.__version__]
        clock = time.perf_counter if on_cuda else time.process_time
        found = sizes.best(names=names, candidates=candidates, run=self._trial, clock=clock)
        self.tokens_per_pass = found or self.tokens_per_pass

    def _trial(self, n_tokens: int) -> int:
        """Run a pass of about so many tokens; returns how many they were."""
        row = [0] * min(TRIAL_ROW_TOKENS, self._max_tokens)
        n_rows = max(1, n_tokens // len(row))
        batch = TokenBatch(rows=range(n_rows), positions=range(n_rows), token_ids=[row] * n_rows)
        self.forward(batch, should_stop=lambda: False)
        return batch.n_tokens

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> EmbeddingWindow:
        """Check all bodies, tokenise all texts in one call, cut by the token budget."""
        window = EmbeddingWindow(items=items)
        for position, item in enumerate(items):
            try:
                window.requests[position] = self._parse(item)
            except BadItem as problem:
                window.refused[position] = problem.outcome(item.index)
        for position, rows in self._tokenised(window.requests):
            try:
                window.accept(position, self._within_limit(position, window, rows, on_oversize))
            except BadItem as problem:
                window.refused[position] = problem.outcome(items[position].index)
        owners = [position for position, rows in window.rows_of.items() for _ in rows]
        window.batches = cut_by_budget(window.token_ids, owners, tokens_per_pass=self.tokens_per_pass)
        return window

    def forward(
        self,
        batch: TokenBatch,
        *,
        should_stop: Callable[[], bool],  # noqa: ARG002  one batch is short
    ) -> NDArray[np.float32]:
        """Run one batch: float32 (n, d) on the host, rows in the order of ``batch``.

        Raises:
            OutOfDeviceMemory: run the halves instead.
            DeviceLost: the CUDA context is poisoned.
        Source: pooling and normalisation are the model's own modules, run by its library.
        """
        ids, mask = batch.padded()
        try:
            with torch.inference_mode():
                features = {"input_ids": self._on_device(ids), "attention_mask": self._on_device(mask)}
                embeddings: torch.Tensor = self._model(features)["sentence_embedding"]
                vectors: NDArray[np.float32] = embeddings.float().cpu().numpy()
        except RuntimeError as error:
            raise _named(error, batch) from error
        return vectors

    def _on_device(self, values: NDArray[np.int64]) -> torch.Tensor:
        on_host = torch.from_numpy(values)
        if self._device.type == "cpu":
            return on_host
        return on_host.pin_memory().to(self._device, non_blocking=True)

    def finish(
        self,
        window: EmbeddingWindow,
        answers: Sequence[tuple[TokenBatch, NDArray[np.float32]]],
        positions: Sequence[int],
    ) -> Iterator[ItemOutcome]:
        """Put each item's vectors back together and serialise them."""
        vectors = np.empty((len(window.token_ids), self._dimensions), dtype=np.float32)
        for batch, rows in answers:
            vectors[batch.rows] = rows
        for position in positions:
            yield self._answer(window, position, vectors)

    def _answer(self, window: EmbeddingWindow, position: int, vectors: NDArray[np.float32]) -> ItemSucceeded:
        rows = window.rows_of[position]
        n_tokens = sum(len(window.token_ids[row]) for row in rows)
        body = embedding_response(
            window.requests[position], vectors[rows.start : rows.stop], model=self._alias, n_tokens=n_tokens
        )
        return ItemSucceeded(index=window.items[position].index, body=body, input_tokens=n_tokens, output_tokens=0)

    def _parse(self, item: InputItem) -> EmbeddingRequest:
        return parse_embedding_request(item.body, dimensions=self._dimensions, vocabulary_size=self._vocabulary_size)

    def _tokenised(self, requests: dict[int, EmbeddingRequest]) -> Iterator[tuple[int, list[list[int]]]]:
        """Position and token rows of every request, in order; one call into the tokeniser for all texts."""
        texts = [text for request in requests.values() for text in request.inputs if isinstance(text, str)]
        encoded = iter(self._tokenizer.encode_batch_fast(texts))
        for position, request in requests.items():
            yield position, [next(encoded).ids if isinstance(row, str) else row for row in request.inputs]

    def _within_limit(
        self, position: int, window: EmbeddingWindow, rows: list[list[int]], on_oversize: str
    ) -> list[list[int]]:
        longest = max(map(len, rows))
        if longest <= self._max_tokens:
            return rows
        if on_oversize == "truncate":
            inputs = window.requests[position].inputs
            return [self._cut(row, source) for row, source in zip(rows, inputs, strict=True)]
        if on_oversize != "fail":
            raise invalid(f"on_oversize '{on_oversize}' is not supported for embeddings; use 'fail' or 'truncate'")
        raise BadItem(
            ItemErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"'input' has {longest} tokens, {self._alias} takes {self._max_tokens}; shorten it",
        )

    def _cut(self, row: list[int], source: str | list[int]) -> list[int]:
        """Shorten a row as the model's own tokeniser does: special tokens stay."""
        if len(row) <= self._max_tokens:
            return row
        if isinstance(source, str):
            return list(self._truncating.encode(source).ids)
        return row[: self._max_tokens]


def _load(version: ModelVersion, *, device: str) -> SentenceTransformer:
    if version.precision == "int8" and device != "cpu":
        raise ModelUnloadable(f"version {version.name} is int8, which runs on CPU only; give it to a cpu pool")
    model = SentenceTransformer(str(_folder(version)), device=device, local_files_only=True)
    model.eval().requires_grad_(False)
    if device != "cpu":
        # fp16, not bf16: on 400 texts, computed on a CPU, the smallest cosines to fp32 were 0.999998 and 0.99988.
        return model.half()
    if version.precision == "int8":
        quantise_linears(model)
    pack_linears(model)
    return model


def _folder(version: ModelVersion) -> Path:
    """Where the model's files are.

    Raises:
        ModelUnloadable: the package is not installed or the folder does not exist.
    """
    base = Path()
    if version.package is not None:
        package = find_spec(version.package)
        if package is None or package.origin is None:
            raise ModelUnloadable(f"the Python package {version.package} with the model's files is not installed")
        base = Path(package.origin).parent
    folder = base / (version.path or "")
    if not folder.is_dir():
        raise ModelUnloadable(f"there is no model folder {folder}; check `path` in the models file")
    return folder


def _embedding_length(model: SentenceTransformer, spec: ModelSpec) -> int:
    found = model.get_embedding_dimension()
    if found is None or (spec.dimensions is not None and found != spec.dimensions):
        raise ModelUnloadable(f"{spec.alias}: the models file says {spec.dimensions} dimensions, the model has {found}")
    return int(found)


def _tokenizers(model: SentenceTransformer, max_tokens: int) -> tuple[Tokenizer, Tokenizer]:
    """Two copies of the model's tokeniser, one whole, one truncating; shared, never changed."""
    serialised = model.tokenizer.backend_tokenizer.to_str()
    whole, truncating = Tokenizer.from_str(serialised), Tokenizer.from_str(serialised)
    whole.no_padding()
    whole.no_truncation()
    truncating.no_padding()
    truncating.enable_truncation(max_length=max_tokens)
    return whole, truncating


def _named(error: RuntimeError, batch: TokenBatch) -> Exception:
    """Tell a full device from a lost one; anything else is left as it is."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return OutOfDeviceMemory(f"a batch of {batch.n_tokens} tokens did not fit on the device")
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in text:
        return DeviceLost(f"the device failed and only a new process can use it again: {text.splitlines()[0]}")
    return error
