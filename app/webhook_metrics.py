"""Prometheus metrics about webhooks: what is still to be told, and whether we are behind with it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from app.database_collector import DatabaseCollector
from app.db.repositories.webhook_deliveries import WebhookDeliveries
from app.db.session import Database

LATELY_S = 3_600.0


class WebhookCollector(DatabaseCollector):
    """Reads the outbox at scrape time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Iterator[Metric]:
        """What waits, for how long, and what became of the rest lately."""
        with self._database.begin() as connection:
            deliveries = WebhookDeliveries(connection)
            backlog, ended = deliveries.backlog(), deliveries.ended_lately(within_s=LATELY_S)
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
