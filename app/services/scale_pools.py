"""Say how many workers each pool should have; whoever starts them, an autoscaler or an operator, asks for this."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from sqlalchemy import Connection

from app.db.repositories.measurements import Measurements
from app.db.repositories.workers import Workers
from app.domain.autoscaling import PoolScale, wanted_workers
from app.services.model_placement import UNKNOWN_TOKENS_PER_S
from app.services.pool_rates import PoolRates
from config.models import ModelSpec
from config.settings import Settings


def scale_pools(connection: Connection, *, settings: Settings, models: Mapping[str, ModelSpec]) -> list[PoolScale]:
    """The scale of every pool that a model lives on or that has workers, by name."""
    workers = Workers(connection)
    rates = PoolRates(models, workers.rates())
    n_live = Counter(worker.pool for worker in workers.live(silence_s=settings.worker_silence_s))
    backlog_s: dict[str, float] = defaultdict(float)
    for left in Measurements(connection).tokens_left():
        rate = rates.of(left.model, left.model_version, left.pool) or UNKNOWN_TOKENS_PER_S
        backlog_s[left.pool] += left.tokens / rate
    pools = {pool for model in models.values() for pool in model.pools} | n_live.keys() | backlog_s.keys()
    return [
        PoolScale(
            pool=pool,
            backlog_s=backlog_s[pool],
            n_live=n_live[pool],
            n_wanted=wanted_workers(
                backlog_s[pool],
                target_s=settings.scale_target_s,
                least=settings.scale_min_workers,
                most=settings.scale_max_workers,
            ),
        )
        for pool in sorted(pools)
    ]
