"""Classes of texts by any sequence classifier of transformers: its library loads the model, the batching is ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from app.domain.items import InputItem
from config.models import ModelSpec, ModelVersion
from workers.engines.backend_tokenizers import whole_and_truncating
from workers.engines.model_files import model_folder, refuse_int8
from workers.engines.packed_linear import pack_linears
from workers.engines.row_engine import TOKENS_PER_PASS, Numbers, RowEngine, Rows
from workers.engines.score_request import ClassifyRequest, classify_response, parse_classify_request


class SequenceClassifierEngine(RowEngine[ClassifyRequest]):
    """One model on one device."""

    def __init__(self, spec: ModelSpec, version: ModelVersion, *, device: str) -> None:
        """Load the model.

        Args:
            device: ``cpu`` or ``cuda:0``.
        Raises:
            ModelUnloadable: the files are missing.
        """
        self._model, tokenizer = _load(version, device=device)
        config = self._model.config
        super().__init__(alias=spec.alias, device=device, max_tokens=spec.max_input_tokens, width=config.num_labels)
        self._labels = [str(config.id2label[place]) for place in range(config.num_labels)]
        # Several classes may be true at once, or there is but one: each has a probability of its own.
        self._are_apart = config.problem_type == "multi_label_classification" or config.num_labels == 1
        self._tokenizer, self._truncating = whole_and_truncating(tokenizer, spec.max_input_tokens)
        self.tokens_per_pass = max(TOKENS_PER_PASS[self._device.type], self._max_tokens)

    def parse(self, item: InputItem) -> ClassifyRequest:
        """See ``RowEngine.parse``."""
        return parse_classify_request(item.body)

    def tokenised(self, requests: Mapping[int, ClassifyRequest]) -> Iterator[tuple[int, Rows]]:
        """See ``RowEngine.tokenised``; one call into the tokeniser for all texts."""
        texts = [text for request in requests.values() for text in request.texts]
        encoded = iter(self._tokenizer.encode_batch_fast(texts))
        for position, request in requests.items():
            yield position, Rows([list(next(encoded).ids) for _ in request.texts])

    def truncated(self, request: ClassifyRequest, rows: Rows) -> Rows:  # noqa: ARG002
        """See ``RowEngine.truncated``."""
        return Rows([list(self._truncating.encode(text).ids) for text in request.texts])

    def wants_truncation(self, request: ClassifyRequest, on_oversize: str) -> bool:
        """See ``RowEngine.wants_truncation``."""
        return request.truncate or super().wants_truncation(request, on_oversize)

    def numbers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """See ``RowEngine.numbers``: what the last layer gives."""
        logits: torch.Tensor = self._model(**features).logits
        return logits

    def body(self, request: ClassifyRequest, numbers: Numbers, *, n_tokens: int) -> bytes:
        """See ``RowEngine.body``."""
        scores = torch.from_numpy(numbers)
        if not request.raw_scores:
            scores = scores.sigmoid() if self._are_apart else scores.softmax(dim=-1)
        return classify_response(scores.tolist(), self._labels, model=self._alias, n_tokens=n_tokens)


def _load(version: ModelVersion, *, device: str) -> tuple[Any, Any]:
    """The model and its tokeniser."""
    refuse_int8(version)
    folder = str(model_folder(version))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    model = model.to(device).eval().requires_grad_(False)
    if device != "cpu":
        return model.half(), tokenizer
    pack_linears(model)
    return model, tokenizer
