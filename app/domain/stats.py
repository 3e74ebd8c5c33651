"""How the service does: what waits, how long jobs took lately, and what an operator should look at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """What waits in one pool in one class."""

    pool: str | None
    """None for jobs whose input is not yet checked."""
    priority: str
    n_jobs: int
    n_chunks: int
    n_items: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """One pool as a whole."""

    pool: str
    n_jobs: int
    """Jobs with a chunk that no worker has taken."""
    n_workers: int | None
    """Workers that take work; None where the dispatcher has not reported lately."""
    backlog_s: float | None
    """Seconds that one worker would need for its part of what is left, at the measured rates; None as above."""
    n_wanted: int
    """Workers that there should be for the jobs that are counted here."""

    @property
    def drained_in_s(self) -> float | None:
        """How long the live workers need for it; None where there are none, or nobody knows."""
        return self.backlog_s / self.n_workers if self.n_workers and self.backlog_s is not None else None


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The middle and the upper end of a distribution, in seconds; None where there is nothing."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStats:
    """Jobs that ended lately, of one class or of all."""

    priority: str | None
    """None for all classes together."""
    n_ended: int
    """Without those that their client cancelled or whose input was refused."""
    n_in_window: int
    """Ended before their deadline, with every item run."""
    wait: Percentiles
    """From acceptance to the first claimed chunk; jobs that run now are counted in."""
    time_to_complete: Percentiles

    @property
    def in_window_rate(self) -> float | None:
        """Share of the ended jobs that kept their window."""
        return self.n_in_window / self.n_ended if self.n_ended else None


class AlertCode(StrEnum):
    """What an operator should look at."""

    QUEUE_DEEP = "queue_deep"  # more jobs wait in a pool than the installation's threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something is above its threshold."""

    code: AlertCode
    pool: str | None
    value: float
    threshold: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStats:
    """Everything together, over all tenants and naming none."""

    window_s: int
    """How far back ``served`` looks."""
    queues: Sequence[QueueStats]
    pools: Sequence[PoolStats]
    served: Sequence[ServedStats]
    alerts: Sequence[Alert]


def pools_of(queues: Sequence[QueueStats]) -> dict[str | None, int]:
    """How many jobs wait in each pool, all classes together."""
    n_jobs: dict[str | None, int] = {}
    for queue in queues:
        n_jobs[queue.pool] = n_jobs.get(queue.pool, 0) + queue.n_jobs
    return n_jobs


def alerts_of(queues: Sequence[QueueStats], *, queue_deep_jobs: int) -> list[Alert]:
    """What is above its threshold."""
    return [
        Alert(
            code=AlertCode.QUEUE_DEEP,
            pool=pool,
            value=n_jobs,
            threshold=queue_deep_jobs,
            message=f"{n_jobs:,} jobs wait {_where(pool)}; more than {queue_deep_jobs:,} are a deep queue.",
        )
        for pool, n_jobs in pools_of(queues).items()
        if n_jobs > queue_deep_jobs
    ]


def _where(pool: str | None) -> str:
    return "to be checked" if pool is None else f"in pool {pool}"
