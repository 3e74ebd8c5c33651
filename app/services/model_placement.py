"""Where a model runs and how fast it is there: used when work is planned and when it is granted."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from app.db.repositories.workers import Workers
from config.models import ModelSpec
from config.queues import pool_of

UNKNOWN_TOKENS_PER_S = 5_000.0
"""Rate assumed for a job without a usable model: its items fail one by one, at the speed of reading."""
UNKNOWN_MAX_TOKENS = 8_192


def configured_pools(queues: tuple[str, ...]) -> list[str]:
    """The pools of this installation, in the order of its queues."""
    return list(dict.fromkeys(pool_of(queue) for queue in queues))


def pool_for(model: ModelSpec | None, queues: tuple[str, ...]) -> str:
    """The pool a model's jobs run on: the first of ours that the model may live on."""
    configured = configured_pools(queues)
    if model is None:
        return configured[0]
    return next((pool for pool in configured if pool in model.pools), model.pools[0])


def tokens_per_s(connection: Connection, model: ModelSpec | None, *, pool: str) -> float:
    """The measured rate of one worker, or the one assumed until something was measured."""
    if model is None:
        return UNKNOWN_TOKENS_PER_S
    measured = Workers(connection).rate(model=model.alias, version=model.stable_version, pool=pool)
    return measured or model.assumed_tokens_per_second.get(pool, UNKNOWN_TOKENS_PER_S)


def max_input_tokens(model: ModelSpec | None) -> int:
    """The most tokens one input can cost."""
    return model.max_input_tokens if model else UNKNOWN_MAX_TOKENS


def usable_model(models: Mapping[str, ModelSpec], alias: str | None, endpoint: str) -> ModelSpec | None:
    """The model of that name, where there is one and it serves the endpoint."""
    model = models.get(alias or "")
    return model if model is not None and model.serves(endpoint) else None
