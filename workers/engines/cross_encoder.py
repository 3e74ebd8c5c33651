"""Rankings by any cross-encoder of sentence-transformers: its library loads the model, the batching is ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from sentence_transformers import CrossEncoder

from app.domain.items import InputItem
from config.models import ModelSpec, ModelVersion
from workers.engines.backend_tokenizers import whole_and_truncating
from workers.engines.base import ModelUnloadable
from workers.engines.model_files import model_folder, refuse_int8
from workers.engines.packed_linear import pack_linears
from workers.engines.row_engine import TOKENS_PER_PASS, Numbers, RowEngine, Rows
from workers.engines.score_request import RerankRequest, parse_rerank_request, rerank_response


class CrossEncoderEngine(RowEngine[RerankRequest]):
    """One model on one device; a row is a query with one document."""

    oversized = "documents"

    def __init__(self, spec: ModelSpec, version: ModelVersion, *, device: str) -> None:
        """Load the model.

        Args:
            device: ``cpu`` or ``cuda:0``.
        Raises:
            ModelUnloadable: the files are missing, or it gives no single score.
        """
        super().__init__(alias=spec.alias, device=device, max_tokens=spec.max_input_tokens, width=1)
        self._model = _load(version, device=device)
        if self._model.num_labels != 1:
            message = f"{spec.alias} gives {self._model.num_labels} numbers for a text; a ranking needs one"
            raise ModelUnloadable(message)
        tokenizer = self._model.tokenizer
        self._has_segments = "token_type_ids" in tokenizer.model_input_names
        self._tokenizer, self._truncating = whole_and_truncating(tokenizer, spec.max_input_tokens)
        self.tokens_per_pass = max(TOKENS_PER_PASS[self._device.type], self._max_tokens)
        self.window_items = 256

    def parse(self, item: InputItem) -> RerankRequest:
        """See ``RowEngine.parse``."""
        return parse_rerank_request(item.body)

    def tokenised(self, requests: Mapping[int, RerankRequest]) -> Iterator[tuple[int, Rows]]:
        """See ``RowEngine.tokenised``; one call into the tokeniser for all pairs."""
        pairs = [(request.query, document) for request in requests.values() for document in request.documents]
        encoded = iter(self._tokenizer.encode_batch_fast(pairs))
        for position, request in requests.items():
            yield position, self._rows([next(encoded) for _ in request.documents])

    def truncated(self, request: RerankRequest, rows: Rows) -> Rows:  # noqa: ARG002
        """See ``RowEngine.truncated``: of query and document the longer one is cut."""
        return self._rows([self._truncating.encode(request.query, document) for document in request.documents])

    def wants_truncation(self, request: RerankRequest, on_oversize: str) -> bool:
        """See ``RowEngine.wants_truncation``."""
        return request.truncate or super().wants_truncation(request, on_oversize)

    def numbers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """See ``RowEngine.numbers``: the score before the model's activation."""
        scores: torch.Tensor = self._model(features)["scores"]
        return scores.reshape(-1, 1)

    def body(self, request: RerankRequest, numbers: Numbers, *, n_tokens: int) -> bytes:
        """See ``RowEngine.body``."""
        scores = torch.from_numpy(numbers)
        if not request.raw_scores and self._model.activation_fn is not None:
            scores = self._model.activation_fn(scores)
        return rerank_response(request, scores.squeeze(-1).tolist(), model=self._alias, n_tokens=n_tokens)

    def _rows(self, encoded: list[Any]) -> Rows:
        ids = [list(each.ids) for each in encoded]
        return Rows(ids, [_second_from(each.type_ids) for each in encoded] if self._has_segments else None)


def _second_from(type_ids: list[int]) -> int:
    """Where the second text of a row begins; behind its end where the tokeniser tells the two apart by nothing."""
    return type_ids.index(1) if 1 in type_ids else len(type_ids)


def _load(version: ModelVersion, *, device: str) -> Any:
    refuse_int8(version)
    model = CrossEncoder(str(model_folder(version)), device=device, local_files_only=True)
    model.eval().requires_grad_(False)
    if device != "cpu":
        return model.half()
    pack_linears(model)
    return model
