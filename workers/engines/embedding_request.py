"""The body of an embeddings request, checked, and the body of its answer."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from workers.engines.base import invalid, required_input

MAX_INPUTS = 2048
"""Inputs in one request at most, as in OpenAI's API."""
_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "user"})

Inputs = Sequence[str | list[int]]


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A request whose every field is usable."""

    inputs: Inputs
    """Texts, or rows of token ids of the model's own vocabulary, which are used as they are."""
    as_base64: bool
    dimensions: int | None
    """Leading dimensions to keep; None keeps all."""


def parse_embedding_request(body: dict[str, Any], *, dimensions: int, vocabulary_size: int) -> EmbeddingRequest:
    """Check a request body.

    Args:
        dimensions: length of the model's embeddings.
        vocabulary_size: token ids run from 0 to one below it.
    Raises:
        BadItem: naming the parameter and what it should hold.
    """
    unknown = sorted(map(str, body.keys() - _FIELDS))
    if unknown:
        raise invalid(f"'{unknown[0]}' is no parameter of an embeddings request")
    if not isinstance(body.get("user"), str | None):
        raise invalid("'user' must be a string")
    return EmbeddingRequest(
        inputs=_inputs(required_input(body), vocabulary_size),
        as_base64=_wants_base64(body.get("encoding_format")),
        dimensions=_dimensions(body.get("dimensions"), at_most=dimensions),
    )


def embedding_response(request: EmbeddingRequest, vectors: NDArray[np.float32], *, model: str, n_tokens: int) -> bytes:
    """Serialise the answer in OpenAI's shape.

    Args:
        vectors: float32 (n, d), C-contiguous, L2-normalised, rows in the order of ``request.inputs``.
    """
    if request.dimensions is not None and request.dimensions < vectors.shape[1]:
        vectors = _shortened(vectors, request.dimensions)
    encode = _base64_of if request.as_base64 else _itself
    document = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": encode(row)} for i, row in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _inputs(value: Any, vocabulary_size: int) -> Inputs:
    if isinstance(value, str):
        return _texts([value])
    if not isinstance(value, list):
        raise invalid("'input' must be a string, a list of strings, a list of token ids or a list of such lists")
    if not value:
        raise invalid("'input' must not be an empty list")
    if isinstance(value[0], str):
        return _texts(_at_most(MAX_INPUTS, value))
    if isinstance(value[0], list):
        return [_token_ids(row, vocabulary_size) for row in _at_most(MAX_INPUTS, value)]
    return [_token_ids(value, vocabulary_size)]


def _at_most(limit: int, values: list[Any]) -> list[Any]:
    if len(values) > limit:
        raise invalid(f"'input' holds {len(values)} inputs, at most {limit} are allowed")
    return values


def _texts(values: list[Any]) -> list[str]:
    for value in values:
        if not isinstance(value, str):
            raise invalid("'input' must hold strings only, or token ids only")
        if not value:
            raise invalid("'input' must not hold an empty string")
        if not _is_unicode(value):
            raise invalid("'input' holds half of a surrogate pair, which is no text")
    return values


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _token_ids(row: Any, vocabulary_size: int) -> list[int]:
    if not isinstance(row, list) or not row:
        raise invalid("'input' must hold non-empty lists of token ids")
    for token_id in row:
        if isinstance(token_id, bool) or not isinstance(token_id, int):
            raise invalid("'input' must hold strings only, or token ids only")
        if not 0 <= token_id < vocabulary_size:
            raise invalid(f"'input' holds the token id {token_id}; this model's run from 0 to {vocabulary_size - 1}")
    return row


def _wants_base64(value: Any) -> bool:
    if value is None or value == "float":
        return False
    if value == "base64":
        return True
    raise invalid("'encoding_format' must be 'float' or 'base64'")


def _dimensions(value: Any, *, at_most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= at_most:
        raise invalid(f"'dimensions' must be a whole number from 1 to {at_most}")
    return value


def _shortened(vectors: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    kept = np.ascontiguousarray(vectors[:, :dimensions])
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    shortened: NDArray[np.float32] = kept / np.maximum(lengths, np.finfo(np.float32).tiny)
    return shortened


def _base64_of(row: NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4", copy=False).data).decode("ascii")


def _itself(row: NDArray[np.float32]) -> NDArray[np.float32]:
    return row
