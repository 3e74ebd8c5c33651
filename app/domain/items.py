"""Items as engines see them: what goes in, and the one outcome that comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ItemErrorCode(StrEnum):
    """Why an item failed; the codes of the contract."""

    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    MISSING_REQUIRED_PARAMETER = "missing_required_parameter"
    MODEL_NOT_FOUND = "model_not_found"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    ITEM_TIMEOUT = "item_timeout"
    RATE_LIMITED = "rate_limited"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    OUT_OF_MEMORY = "out_of_memory"
    WORKER_CRASH = "worker_crash"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class InputItem:
    """One item, ready to run."""

    index: int
    """0-based position in the input."""
    custom_id: str
    body: dict[str, Any]
    """Request body, already merged with the job's parameters and default model."""
    attempt: int
    """1 on the item's first run."""


@dataclass(frozen=True, slots=True)
class ItemSucceeded:
    """The item ran; ``body`` is the response body as serialised JSON, in the endpoint's OpenAI shape."""

    index: int
    body: bytes
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """The item ran, or was refused, and has no answer."""

    index: int
    code: str
    message: str
    retry_after_s: float | None = None
    stops_job: bool = False
    """Whether every other item of the job would meet the same, so that trying them is in vain."""


ItemOutcome = ItemSucceeded | ItemFailed
