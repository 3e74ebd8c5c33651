"""Prometheus metrics about what an operator is called for: backing services that are down, work that is stuck."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.db.session import Database
from app.errors import NightshiftError
from app.installation.work import stuck_work
from app.services.check_health import Health

log = structlog.get_logger(__name__)

CACHED_S = 10.0


class HealthCollector(Collector):
    """Looks at scrape time, at most every ten seconds: each look opens connections."""

    def __init__(self, database: Database, check: Callable[[], Health]) -> None:
        self._database = database
        self._check = check
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._found: list[Metric] = []

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry would else collect at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Each backing service, and what is stuck; only the services where Postgres does not answer."""
        with self._lock:
            if time.monotonic() - self._read_at > CACHED_S:
                self._found = [self._services(), *self._stuck()]
                self._read_at = time.monotonic()
            yield from self._found

    def _services(self) -> Metric:
        up = GaugeMetricFamily(
            "nightshift_backing_service_up", "Whether a backing service answers the dispatcher", labels=["service"]
        )
        for service in self._check().services:
            up.add_metric([service.name], float(service.reason is None))
        return up

    def _stuck(self) -> Iterator[Metric]:
        try:
            with self._database.begin() as connection:
                found = stuck_work(connection)
        except NightshiftError as error:
            log.warning("metrics_without_database", reason=error.message)
            return
        stuck = GaugeMetricFamily(
            "nightshift_stuck", "What the dispatcher should have mended a minute ago", labels=["what"]
        )
        for what, n in found.items():
            stuck.add_metric([what.replace(" ", "_")], n)
        yield stuck
