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
                backlog = WebhookDeliveries(connection).backlog()
        except NightshiftError as error:
            log.warning("webhooks_without_database", reason=error.message)
            return
        yield GaugeMetricFamily(
            "nightshift_webhooks_pending", "Deliveries that receivers have not taken yet", value=backlog.n_pending
        )
        yield GaugeMetricFamily(
            "nightshift_webhooks_overdue_seconds",
            "For how long the delivery that has been due longest waits for a sender",
            value=backlog.overdue_s,
        )
