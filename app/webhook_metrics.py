"""Prometheus metrics about webhooks: what is still to be told, and whether we are behind with it."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.db.repositories.webhook_deliveries import WebhookDeliveries
from app.db.session import Database
from app.errors import NightshiftError

log = structlog.get_logger(__name__)

LATELY_S = 3_600.0


class WebhookCollector(Collector):
    """Reads the outbox at scrape time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry would else collect at registration, when Postgres may not be up."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every metric; none where Postgres does not answer."""
        try:
            with self._database.begin() as connection:
                deliveries = WebhookDeliveries(connection)
                backlog, ended = deliveries.backlog(), deliveries.ended_lately(within_s=LATELY_S)
        except NightshiftError as error:
            log.warning("webhooks_without_database", reason=error.message)
            return
        lately = GaugeMetricFamily(
            "nightshift_webhooks_ended", "Deliveries of the last hour that were taken or given up", labels=["state"]
        )
        for state, n in ended.items():
            lately.add_metric([state], n)
        yield lately
        yield GaugeMetricFamily(
            "nightshift_webhooks_pending", "Deliveries that receivers have not taken yet", value=backlog.n_pending
        )
        yield GaugeMetricFamily(
            "nightshift_webhooks_overdue_seconds",
            "For how long the delivery that has been due longest waits for a sender",
            value=backlog.overdue_s,
        )
