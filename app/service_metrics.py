"""The figures of ``/v1/stats`` as Prometheus metrics; how large pools are and should be, ``fleet_metrics`` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from prometheus_client.core import GaugeMetricFamily, Metric

from app.database_collector import DatabaseCollector
from app.db.session import Database
from app.domain.stats import AlertCode, Percentiles, ServedStats, ServiceStats, pools_of
from app.services.count_stats import KnownStats
from config.models import ModelSpec
from config.settings import Settings

UNPLANNED, ALL = "unplanned", "all"
"""Labels for jobs that have no pool yet, and for all classes together."""


class ServiceCollector(DatabaseCollector):
    """Reads the figures at scrape time."""

    def __init__(self, database: Database, settings: Settings, models: Mapping[str, ModelSpec]) -> None:
        self._database = database
        self._settings = settings
        self._models = models
        self._known = KnownStats()

    def read(self) -> Iterator[Metric]:
        """What ``/v1/stats`` says."""
        stats = self._known.read(self._database, self._settings, self._models)
        yield from service_metrics(stats)


def service_metrics(stats: ServiceStats) -> Iterator[Metric]:
    """Every metric that is taken from the figures."""
    jobs = GaugeMetricFamily("nightshift_queue_jobs", "Jobs that wait", labels=["pool", "priority"])
    for queue in stats.queues:
        jobs.add_metric([queue.pool or UNPLANNED, queue.priority], queue.n_jobs)
    yield jobs
    yield _deep(stats)
    yield from _served_metrics(stats.served)


def _deep(stats: ServiceStats) -> Metric:
    """Alert on this being 1."""
    deep = GaugeMetricFamily("nightshift_queue_deep", "Whether more jobs wait than the threshold", labels=["pool"])
    alerted = {alert.pool for alert in stats.alerts if alert.code == AlertCode.QUEUE_DEEP.value}
    for pool in {*pools_of(stats.queues), *(pool.pool for pool in stats.pools)}:
        deep.add_metric([pool or UNPLANNED], float(pool in alerted))
    return deep


def _served_metrics(served: Sequence[ServedStats]) -> Iterator[Metric]:
    rate = GaugeMetricFamily(
        "nightshift_in_window_ratio", "Share of the jobs of the last day that kept their window", labels=["priority"]
    )
    took = GaugeMetricFamily(
        "nightshift_time_to_complete_seconds",
        "From acceptance to the end of the jobs of the last day",
        labels=["priority", "quantile"],
    )
    for each in served:
        if each.in_window_rate is not None:
            rate.add_metric([each.priority or ALL], each.in_window_rate)
        for quantile, seconds in _quantiles(each.time_to_complete):
            took.add_metric([each.priority or ALL, quantile], seconds)
    yield from (rate, took)


def _quantiles(percentiles: Percentiles) -> Iterator[tuple[str, float]]:
    for name in fields(percentiles):
        seconds = getattr(percentiles, name.name)
        if seconds is not None:
            yield f"0.{name.name.removeprefix('p')}", seconds
