"""Where a model runs and how fast it is there: used when work is planned and when it is granted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from app.db.repositories.workers import LiveWorker, Workers
from config.models import ModelSpec
from config.queues import pool_of

UNKNOWN_TOKENS_PER_S = 5_000.0
"""Rate assumed for a job without a usable model: its items fail one by one, at the speed of reading."""
UNKNOWN_MAX_TOKENS = 8_192


def configured_pools(queues: Sequence[str]) -> list[str]:
    """The pools that a host is configured for, in the order of its queues."""
    return list(dict.fromkeys(pool_of(queue) for queue in queues))


def pool_for(
    connection: Connection, model: ModelSpec | None, *, workers: Sequence[LiveWorker], queues: Sequence[str]
) -> str:
    """The pool that a job's chunks are cut for: the fastest of its model's pools that has a live worker.

    Where none has, one that this host is configured for, else the first that the models file names. The chunks are
    bound to no pool by this: the dispatcher gives each to whichever of the model's pools has room.
    """
    live = list(dict.fromkeys(worker.pool for worker in workers))
    configured = configured_pools(queues)
    if model is None:
        return next(iter([*live, *configured]))
    rated = [pool for pool in model.pools if pool in live] or [pool for pool in model.pools if pool in configured]
    rates = {pool: tokens_per_s(connection, model, pool=pool) for pool in rated}
    return max(rates, key=lambda pool: rates[pool], default=model.pools[0])


def count_workers(pool: str, *, workers: Sequence[LiveWorker], queues: Sequence[str]) -> int:
    """How many workers a pool's chunks are cut for: those that live, else those of this host, and at least one."""
    n_live = sum(worker.pool == pool for worker in workers)
    return n_live or max(1, sum(pool_of(queue) == pool for queue in queues))


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
