"""Which item failures are worth another attempt, and when."""

from __future__ import annotations

import random

from app.domain.items import ItemErrorCode

RETRYABLE_CODES = frozenset(
    {
        ItemErrorCode.ITEM_TIMEOUT,
        ItemErrorCode.RATE_LIMITED,
        ItemErrorCode.UPSTREAM_UNAVAILABLE,
        ItemErrorCode.OUT_OF_MEMORY,
    }
)
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 300.0


def is_retryable(code: str) -> bool:
    """Whether the same item may succeed later, unchanged."""
    return code in RETRYABLE_CODES


def retry_delay_s(*, attempt: int, retry_after_s: float | None, random_unit: float | None = None) -> float:
    """How long to wait before the attempt that follows ``attempt`` (which counts from 1).

    Exponential with jitter between half and the whole of it, so that items that failed together do not return
    together; what the other side asked for (``retry_after_s``) is a floor.
    """
    unit = random.random() if random_unit is None else random_unit  # noqa: S311 - jitter, no secret
    backoff_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (attempt - 1))
    return max(backoff_s * (0.5 + unit / 2), retry_after_s or 0.0)
