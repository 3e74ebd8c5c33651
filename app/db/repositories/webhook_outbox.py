"""The outbox of webhooks: what is to be told is written in the transaction in which it comes about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select
from sqlalchemy.dialects.postgresql import array

from app.db.tables import webhook_deliveries, webhook_endpoints
from app.domain.ids import new_id
from app.domain.jobs import Counts, Job
from app.domain.webhooks import PROGRESS, DeliveryState, events_of, job_payload


@dataclass(frozen=True, slots=True)
class _Destination:
    url: str
    event_types: Sequence[str]
    endpoint_id: str | None = None


class WebhookOutbox:
    """Adds deliveries inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell_state(self, job: Job) -> None:
        """Tell whoever asked for it that a job has come into its state."""
        counts = Counts(**job.final["counts"]) if job.final else Counts()
        self._tell(job, events_of(job), counts)

    def tell_progress(self, job: Job, counts: Counts) -> None:
        """Tell whoever asked for it how far a job has come.

        It takes the place of what a receiver was to be told before and has not taken, and waits as long as that.
        """
        self._tell(job, (PROGRESS,), counts, not_before=self._drop_progress(job))

    def _drop_progress(self, job: Job) -> dict[str, datetime]:
        """Drop what is still to be told of a job's progress and not being sent; by address, when its turn was."""
        overtaken = (
            webhook_deliveries.update()
            .where(
                webhook_deliveries.c.job_id == job.id,
                webhook_deliveries.c.event_type == PROGRESS,
                webhook_deliveries.c.state == DeliveryState.PENDING,
                func.coalesce(webhook_deliveries.c.claimed_until, func.now()) <= func.now(),
            )
            .values(state=DeliveryState.DROPPED, ended_at=func.now())
            .returning(webhook_deliveries.c.url, webhook_deliveries.c.next_attempt_at)
        )
        return {row.url: row.next_attempt_at for row in self._connection.execute(overtaken)}

    def _tell(
        self,
        job: Job,
        event_types: Sequence[str],
        counts: Counts,
        *,
        not_before: Mapping[str, datetime] = MappingProxyType({}),
    ) -> None:
        if not event_types:
            return
        destinations = list(self._destinations(job, event_types))
        if not destinations:
            return
        rows = [row for event_type in event_types for row in self._rows(job, event_type, counts, destinations)]
        for row in rows:
            row["next_attempt_at"] = not_before.get(row["url"], row["next_attempt_at"])
        if rows:
            self._connection.execute(webhook_deliveries.insert(), rows)

    def _destinations(self, job: Job, event_types: Sequence[str]) -> Iterator[_Destination]:
        """The job's own receiver comes last, so that an endpoint with its address goes first."""
        query = select(webhook_endpoints.c.id, webhook_endpoints.c.url, webhook_endpoints.c.event_types).where(
            webhook_endpoints.c.tenant_id == job.tenant_id,
            webhook_endpoints.c.deleted_at.is_(None),
            webhook_endpoints.c.event_types.overlap(array(event_types)),
        )
        for row in self._connection.execute(query.order_by(webhook_endpoints.c.created_at)).mappings():
            yield _endpoint(row)
        if job.webhook is not None:
            yield _Destination(job.webhook.url, job.webhook.events)

    def _rows(
        self, job: Job, event_type: str, counts: Counts, destinations: Sequence[_Destination]
    ) -> Iterator[dict[str, Any]]:
        """One row for each address: an event that goes there already is not sent to it twice."""
        event_id = new_id("evt_")
        now = self._connection.execute(select(func.now())).scalar_one()
        payload = job_payload(job, event_id=event_id, event_type=event_type, counts=counts, now=now)
        told: set[str] = set()
        for destination in destinations:
            if event_type not in destination.event_types or destination.url in told:
                continue
            told.add(destination.url)
            yield {
                "id": new_id("whd_"),
                "tenant_id": job.tenant_id,
                "event_id": event_id,
                "event_type": event_type,
                "job_id": job.id,
                "endpoint_id": destination.endpoint_id,
                "url": destination.url,
                "payload": payload,
                "next_attempt_at": now,
            }


def _endpoint(row: RowMapping) -> _Destination:
    return _Destination(row["url"], row["event_types"], row["id"])
