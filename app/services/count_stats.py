"""Count how the service does: depth, age, waits, windows kept, and what is above its threshold."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from app.db.repositories.outlooks import Outlooks
from app.db.repositories.service_stats import ServiceStatsRows
from app.db.session import Database
from app.domain.autoscaling import PoolScale
from app.domain.outlook import BELIEVED_FOR_S, PoolOutlook
from app.domain.stats import PoolStats, QueueStats, ServiceStats, alerts_of, pools_of
from app.services.scale_pools import scale_pools
from config.models import ModelSpec
from config.settings import Settings

WINDOW_S = 86_400
KEPT_FOR_S = 5.0
SHARE_OF_TIME = 0.05
"""Counting may cost this much of a core of the database; an answer that took long is kept for longer."""


@dataclass(slots=True)
class KnownStats:
    """The figures as this process read them last. Thread-safe; whoever comes while they are read waits for them."""

    _stats: ServiceStats | None = None
    _good_until_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, database: Database, settings: Settings, models: Mapping[str, ModelSpec]) -> ServiceStats:
        """The figures, some seconds old at most."""
        with self._lock:
            began_s = time.monotonic()
            if self._stats is None or began_s >= self._good_until_s:
                with database.begin() as connection:
                    self._stats = count_stats(connection, settings, models)
                took_s = time.monotonic() - began_s
                self._good_until_s = began_s + took_s + max(KEPT_FOR_S, took_s / SHARE_OF_TIME)
            return self._stats


def count_stats(connection: Connection, settings: Settings, models: Mapping[str, ModelSpec]) -> ServiceStats:
    """Count everything anew."""
    rows = ServiceStatsRows(connection)
    queues = rows.queues()
    return ServiceStats(
        window_s=WINDOW_S,
        queues=queues,
        pools=_pools(connection, queues, scale_pools(connection, settings=settings, models=models)),
        served=rows.served(window_s=WINDOW_S),
        alerts=alerts_of(queues, queue_deep_jobs=settings.queue_deep_jobs),
    )


def _pools(connection: Connection, queues: Sequence[QueueStats], scales: Sequence[PoolScale]) -> list[PoolStats]:
    stored = Outlooks(connection)
    outlooks = stored.read([pool for pool, (_, age_s) in stored.ages().items() if age_s <= BELIEVED_FOR_S])
    n_jobs = pools_of(queues)
    n_wanted = {scale.pool: scale.n_wanted for scale in scales}
    names = sorted({*outlooks, *n_wanted, *(pool for pool in n_jobs if pool is not None)})
    return [_pool(name, outlooks.get(name), n_jobs.get(name, 0), n_wanted.get(name, 0)) for name in names]


def _pool(name: str, outlook: PoolOutlook | None, n_jobs: int, n_wanted: int) -> PoolStats:
    return PoolStats(
        pool=name,
        n_jobs=n_jobs,
        n_workers=None if outlook is None else outlook.n_workers,
        backlog_s=None if outlook is None else outlook.backlog_s,
        n_wanted=n_wanted,
    )
