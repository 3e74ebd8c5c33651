"""Prometheus metrics about the size of pools: what an autoscaler reads (docker/k8s)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from app.database_collector import DatabaseCollector
from app.db.session import Database
from app.services.scale_pools import scale_pools
from config.models import ModelSpec
from config.settings import Settings

WANTED_WORKERS = "nightshift_wanted_workers"


class FleetCollector(DatabaseCollector):
    """Works out the scale of every pool at scrape time: a few sums over the jobs that are live."""

    def __init__(self, settings: Settings, models: Mapping[str, ModelSpec], database: Database) -> None:
        self._settings = settings
        self._models = models
        self._database = database

    def read(self) -> Iterator[Metric]:
        """The scale of every pool; where there is none to tell, an autoscaler leaves it as it is."""
        with self._database.begin() as connection:
            scales = scale_pools(connection, settings=self._settings, models=self._models)
        wanted = GaugeMetricFamily(WANTED_WORKERS, "Workers that the backlog asks for", labels=["pool"])
        live = GaugeMetricFamily("nightshift_live_workers", "Workers that take chunks", labels=["pool"])
        backlog = GaugeMetricFamily(
            "nightshift_backlog_seconds", "What is left of all jobs, in seconds of one worker", labels=["pool"]
        )
        for scale in scales:
            wanted.add_metric([scale.pool], scale.n_wanted)
            live.add_metric([scale.pool], scale.n_live)
            backlog.add_metric([scale.pool], scale.backlog_s)
        yield from (wanted, live, backlog)
