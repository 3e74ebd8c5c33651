"""How fast the workers of each pool run each model, as far as it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config.models import ModelSpec


@dataclass(frozen=True, slots=True)
class PoolRates:
    """Tokens in a second of one worker."""

    models: Mapping[str, ModelSpec]
    measured: Mapping[tuple[str, str, str], float]
    """By model, version and pool."""

    def of(self, model: str | None, version: str | None, pool: str) -> float:
        """The measured rate, else the one that the models file assumes, else zero: not known."""
        measured = self.measured.get((model or "", version or "", pool))
        spec = self.models.get(model or "")
        return measured or (spec.assumed_tokens_per_second.get(pool, 0.0) if spec else 0.0)
