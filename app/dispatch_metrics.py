"""Prometheus metrics about dispatching: whether somebody leads, how long deciding takes, what had to be done again.

Who leads is asked of Postgres, so every process says the same. What looks did is counted by the dispatcher that made
them, in its memory: it begins at zero where another takes over.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from app.database_collector import DatabaseCollector
from app.db.repositories.leadership import find_leader
from app.db.session import Database

LOOK_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# Without a registry: only the operators' port of the dispatcher shows them.
LOOKS = Histogram(
    "nightshift_dispatch_look_seconds",
    "One look of the leader: everything decided, committed and published",
    buckets=LOOK_BOUNDS_S,
    registry=None,
)
GRANTS = Counter("nightshift_chunks_granted", "Chunks that were given to workers", registry=None)
LEASES_TAKEN_OVER = Counter(
    "nightshift_leases_taken_over", "Chunks taken from a worker whose lease ran out", registry=None
)
TAKEN_FROM_SILENT = Counter(
    "nightshift_grants_taken_back", "Chunks taken from a worker that did not begin them and fell silent", registry=None
)
GRANTS_PUBLISHED_AGAIN = Counter(
    "nightshift_grants_published_again", "Chunks published again, because their message was lost", registry=None
)


class LeaderCollector(DatabaseCollector):
    """Asks at scrape time who leads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Iterator[Metric]:
        """Whether there is a leader, and since when it is silent."""
        with self._database.begin() as connection:
            leader = find_leader(connection)
        leads = GaugeMetricFamily("nightshift_dispatcher_leaders", "Dispatchers that lead: 1, or 0 where none does")
        leads.add_metric([], 0.0 if leader is None else 1.0)
        lag = GaugeMetricFamily("nightshift_dispatcher_lag_seconds", "Since the leader began its last look")
        if leader is not None:
            lag.add_metric([], leader.silence_s)
        yield from (leads, lag)


def register_dispatching(registry: CollectorRegistry, database: Database) -> None:
    """Let a registry show all of it."""
    registry.register(LeaderCollector(database))
    for metric in (LOOKS, GRANTS, LEASES_TAKEN_OVER, TAKEN_FROM_SILENT, GRANTS_PUBLISHED_AGAIN):
        registry.register(metric)
