"""Embeddings by any sentence-transformers model: its library loads the model, the batching is ours."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import torch
from sentence_transformers import SentenceTransformer

from app.domain.items import InputItem
from config.models import ModelSpec, ModelVersion
from workers.engines.backend_tokenizers import whole_and_truncating
from workers.engines.base import ModelUnloadable
from workers.engines.embedding_request import EmbeddingRequest, embedding_response, parse_embedding_request
from workers.engines.int8 import quantise_linears
from workers.engines.model_files import model_folder
from workers.engines.packed_linear import pack_linears
from workers.engines.row_engine import TOKENS_PER_PASS, Numbers, RowEngine, Rows
from workers.engines.token_batches import TokenBatch
from workers.engines.tuning import PassSizes

PASS_SIZES_CPU = (256, 512, 1024, 2048)
PASS_SIZES_CUDA = tuple(1 << power for power in range(13, 19))
TRIAL_ROW_TOKENS = 32
"""Length of a row while sizes are measured: a short text, of which there are the most rows in a pass."""


class SentenceTransformersEngine(RowEngine[EmbeddingRequest]):
    """One model on one device."""

    def __init__(self, spec: ModelSpec, version: ModelVersion, *, device: str) -> None:
        """Load the model.

        Args:
            device: ``cpu`` or ``cuda:0``.
        Raises:
            ModelUnloadable: the files are missing, or this version cannot run on the device.
        """
        self._model = _load(version, device=device)
        self._dimensions = _embedding_length(self._model, spec)
        super().__init__(alias=spec.alias, device=device, max_tokens=spec.max_input_tokens, width=self._dimensions)
        self._names = (spec.alias, version.name, str(version.package), str(version.path), version.precision)
        self._tokenizer, self._truncating = whole_and_truncating(self._model.tokenizer, spec.max_input_tokens)
        self._vocabulary_size = self._tokenizer.get_vocab_size()
        on_cuda = self._device.type == "cuda"
        self.tokens_per_pass = max(TOKENS_PER_PASS[self._device.type], self._max_tokens)
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

    def parse(self, item: InputItem) -> EmbeddingRequest:
        """See ``RowEngine.parse``."""
        return parse_embedding_request(item.body, dimensions=self._dimensions, vocabulary_size=self._vocabulary_size)

    def tokenised(self, requests: Mapping[int, EmbeddingRequest]) -> Iterator[tuple[int, Rows]]:
        """See ``RowEngine.tokenised``; one call into the tokeniser for all texts."""
        texts = [text for request in requests.values() for text in request.inputs if isinstance(text, str)]
        encoded = iter(self._tokenizer.encode_batch_fast(texts))
        for position, request in requests.items():
            yield position, Rows([next(encoded).ids if isinstance(row, str) else row for row in request.inputs])

    def truncated(self, request: EmbeddingRequest, rows: Rows) -> Rows:
        """See ``RowEngine.truncated``."""
        pairs = zip(rows.token_ids, request.inputs, strict=True)
        return Rows([self._cut(row, source) for row, source in pairs])

    def numbers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """See ``RowEngine.numbers``.

        Source: pooling and normalisation are the model's own modules, run by its library.
        """
        embeddings: torch.Tensor = self._model(features)["sentence_embedding"]
        return embeddings

    def body(self, request: EmbeddingRequest, numbers: Numbers, *, n_tokens: int) -> bytes:
        """See ``RowEngine.body``; the numbers are L2-normalised."""
        return embedding_response(request, numbers, model=self._alias, n_tokens=n_tokens)

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
    model = SentenceTransformer(str(model_folder(version)), device=device, local_files_only=True)
    model.eval().requires_grad_(False)
    if device != "cpu":
        # fp16, not bf16: on 400 texts, computed on a CPU, the smallest cosines to fp32 were 0.999998 and 0.99988.
        return model.half()
    if version.precision == "int8":
        quantise_linears(model)
    pack_linears(model)
    return model


def _embedding_length(model: SentenceTransformer, spec: ModelSpec) -> int:
    found = model.get_embedding_dimension()
    if found is None or (spec.dimensions is not None and found != spec.dimensions):
        raise ModelUnloadable(f"{spec.alias}: the models file says {spec.dimensions} dimensions, the model has {found}")
    return int(found)
