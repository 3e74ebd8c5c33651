"""Rows of ``webhook_deliveries``: who sends what now, and what came of it.

Deliveries to one receiver follow one another. One that the receiver does not take puts off the others that are due, so
that a dead receiver is asked once and not for each event; one that it takes brings the others forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, distinct_on

from app.db.tables import webhook_deliveries
from app.domain.pages import Page, page_of
from app.domain.webhooks import Attempt, ClaimedDelivery, Delivery, DeliveryState, backoff_s
from app.errors import NotFound

_FIELDS = [webhook_deliveries.c[spec.name] for spec in dataclasses.fields(Delivery)]
_CLAIM_FIELDS = (
    webhook_deliveries.c.id,
    webhook_deliveries.c.tenant_id,
    webhook_deliveries.c.event_id,
    webhook_deliveries.c.endpoint_id,
    webhook_deliveries.c.url,
    webhook_deliveries.c.payload,
    webhook_deliveries.c.n_attempts.label("attempt"),
    func.now().label("claimed_at"),
)
_IS_PENDING = webhook_deliveries.c.state == DeliveryState.PENDING
_IS_UNCLAIMED = or_(webhook_deliveries.c.claimed_until.is_(None), webhook_deliveries.c.claimed_until <= func.now())
OTHERS_FAULT = 3
"""So many failed attempts may be due to what the receiver was in; one that fails more often is at fault itself."""
NO_ANSWER = "receiver_gave_no_answer"
"""In the log of what was given up with another delivery, without an attempt of its own."""
MOST_PUT_OFF = timedelta(minutes=5)
"""What else waits for a receiver that did not take something is put off by so much at most."""
_IS_DUE = and_(_IS_PENDING, webhook_deliveries.c.next_attempt_at <= func.now(), _IS_UNCLAIMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilters:
    """What the list of deliveries may be narrowed by; None means all."""

    job_id: str | None = None
    endpoint_id: str | None = None
    state: DeliveryState | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is still to be told."""

    n_pending: int
    overdue_s: float
    """Since when the first of those that are due has been so."""


class WebhookDeliveries:
    """Reads and changes deliveries inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def due(self, *, at_once_per_tenant: int, limit: int) -> Sequence[str]:
        """The first due delivery of each receiver to which nothing is being sent, the longest due first.

        Args:
            at_once_per_tenant: receivers of one tenant that may be spoken to at once, those under way counted.
        """
        busy = webhook_deliveries.alias("busy")
        is_busy = and_(busy.c.state == DeliveryState.PENDING, busy.c.claimed_until > func.now())
        same_receiver = and_(busy.c.tenant_id == webhook_deliveries.c.tenant_id, busy.c.url == webhook_deliveries.c.url)
        heads = (
            select(webhook_deliveries.c.id, webhook_deliveries.c.tenant_id, webhook_deliveries.c.next_attempt_at)
            .ext(distinct_on(webhook_deliveries.c.tenant_id, webhook_deliveries.c.url))
            .where(_IS_DUE, ~exists().where(is_busy, same_receiver))
            .order_by(webhook_deliveries.c.tenant_id, webhook_deliveries.c.url, webhook_deliveries.c.next_attempt_at)
            .subquery()
        )
        place = func.row_number().over(partition_by=heads.c.tenant_id, order_by=heads.c.next_attempt_at)
        n_busy = (
            select(func.count())
            .where(is_busy, busy.c.tenant_id == heads.c.tenant_id)
            .correlate(heads)
            .scalar_subquery()
        )
        placed = select(heads.c.id, heads.c.next_attempt_at, (place + n_busy).label("place")).subquery()
        query = select(placed.c.id).where(placed.c.place <= at_once_per_tenant)
        return self._connection.execute(query.order_by(placed.c.next_attempt_at).limit(limit)).scalars().all()

    def claim(self, delivery_id: str, *, claim_s: float) -> ClaimedDelivery | None:
        """Take the right to send a delivery; None where it is not due, or another sends it."""
        return self._claimed(webhook_deliveries.c.id == delivery_id, claim_s)

    def claim_next(self, before: ClaimedDelivery, *, claim_s: float) -> ClaimedDelivery | None:
        """Take the right to send what is due next for the receiver of another; None where nothing is."""
        following = (
            select(webhook_deliveries.c.id)
            .where(_IS_DUE, _goes_to(before))
            .order_by(webhook_deliveries.c.next_attempt_at, webhook_deliveries.c.created_at, webhook_deliveries.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        return self._claimed(webhook_deliveries.c.id == following, claim_s)

    def record_taken(self, delivery: ClaimedDelivery, attempt: Attempt) -> None:
        """The receiver has it; what waits for the same receiver need not wait longer, unless it is itself at fault."""
        ended = {"state": DeliveryState.DELIVERED, "ended_at": func.now()}
        if self._record(delivery, attempt, **ended):
            waiting = webhook_deliveries.update().where(_IS_PENDING, _IS_UNCLAIMED, _goes_to(delivery))
            waits = waiting.where(
                webhook_deliveries.c.next_attempt_at > func.now(), webhook_deliveries.c.n_attempts <= OTHERS_FAULT
            )
            self._connection.execute(waits.values(next_attempt_at=func.now()))

    def record_failed(self, delivery: ClaimedDelivery, attempt: Attempt, *, patience_s: float) -> None:
        """The receiver has not taken it; it is sent again later, or given up once it is older than ``patience_s``."""
        pause = timedelta(seconds=backoff_s(delivery.attempt))
        is_over = webhook_deliveries.c.created_at + timedelta(seconds=patience_s) <= func.now()
        state = case((is_over, DeliveryState.FAILED), else_=DeliveryState.PENDING)
        ended_at = case((is_over, func.now()), else_=None)
        later = func.now() + pause
        if self._record(delivery, attempt, state=state, ended_at=ended_at, next_attempt_at=later, claimed_until=None):
            put_off = webhook_deliveries.update().where(_IS_DUE, _goes_to(delivery))
            until = func.now() + min(pause, MOST_PUT_OFF)
            self._connection.execute(put_off.values(next_attempt_at=until))
            if delivery.attempt > OTHERS_FAULT:
                self._give_up_as_old(delivery, patience_s)

    def _give_up_as_old(self, delivery: ClaimedDelivery, patience_s: float) -> None:
        """End what has waited for the same receiver for too long as well: no attempt of its own would tell more."""
        waiting = webhook_deliveries.update().where(_IS_PENDING, _IS_UNCLAIMED, _goes_to(delivery))
        old = waiting.where(webhook_deliveries.c.created_at + timedelta(seconds=patience_s) <= func.now())
        told = _told(delivery, Attempt(None, NO_ANSWER, 0.0))
        ended = {"state": DeliveryState.FAILED, "ended_at": func.now()}
        self._connection.execute(old.values(attempts=webhook_deliveries.c.attempts.concat(told), **ended))

    def get(self, tenant_id: str, delivery_id: str, *, param: str = "id") -> Delivery:
        """One delivery of a tenant.

        Raises:
            NotFound: no such delivery, or another tenant's.
        """
        query = select(*_FIELDS).where(
            webhook_deliveries.c.tenant_id == tenant_id, webhook_deliveries.c.id == delivery_id
        )
        row = None if "\0" in delivery_id else self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no webhook delivery {delivery_id[:80]!r}.", param=param)
        return _delivery(row)

    def list(self, tenant_id: str, *, limit: int, after: str | None, filters: DeliveryFilters) -> Page[Delivery]:
        """A tenant's deliveries, newest first.

        Raises:
            NotFound: there is no delivery ``after``.
        """
        query = select(*_FIELDS).where(webhook_deliveries.c.tenant_id == tenant_id)
        for spec in dataclasses.fields(filters):
            wanted = getattr(filters, spec.name)
            if wanted is not None:
                query = query.where(webhook_deliveries.c[spec.name] == wanted)
        if after is not None:
            mark = self.get(tenant_id, after, param="after")
            place = tuple_(webhook_deliveries.c.created_at, webhook_deliveries.c.id)
            query = query.where(place < (mark.created_at, mark.id))
        query = query.order_by(webhook_deliveries.c.created_at.desc(), webhook_deliveries.c.id.desc()).limit(limit + 1)
        return page_of([_delivery(row) for row in self._connection.execute(query).mappings()], limit)

    def backlog(self) -> Backlog:
        """What is still to be told, whoever it belongs to."""
        first_due = func.min(webhook_deliveries.c.next_attempt_at).filter(_IS_DUE)
        overdue_s = func.coalesce(func.extract("epoch", func.now() - first_due), 0.0)
        row = self._connection.execute(select(func.count(), overdue_s).where(_IS_PENDING)).one()
        return Backlog(int(row[0]), float(row[1]))

    def ended_lately(self, *, within_s: float) -> dict[str, int]:
        """How many ended within so many seconds, by state, whoever they belong to."""
        lately = webhook_deliveries.c.ended_at > func.now() - timedelta(seconds=within_s)
        query = select(webhook_deliveries.c.state, func.count()).where(lately).group_by(webhook_deliveries.c.state)
        return dict(tuple(row) for row in self._connection.execute(query))

    def delete_ended(self, *, older_than_s: int, limit: int) -> int:
        """Delete up to ``limit`` deliveries that ended so long ago."""
        old = select(webhook_deliveries.c.id).where(
            webhook_deliveries.c.ended_at <= func.now() - timedelta(seconds=older_than_s)
        )
        statement = delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(old.limit(limit)))
        return self._connection.execute(statement).rowcount

    def _claimed(self, which: ColumnElement[bool], claim_s: float) -> ClaimedDelivery | None:
        statement = (
            webhook_deliveries.update()
            .where(which, _IS_DUE)
            .values(
                n_attempts=webhook_deliveries.c.n_attempts + 1,
                claimed_until=func.now() + timedelta(seconds=claim_s),
            )
            .returning(*_CLAIM_FIELDS)
        )
        row = self._connection.execute(statement).mappings().one_or_none()
        return None if row is None else ClaimedDelivery(**row)

    def _record(self, delivery: ClaimedDelivery, attempt: Attempt, **values: Any) -> bool:
        """Write down what came of an attempt, unless the delivery is somebody else's by now."""
        statement = (
            webhook_deliveries.update()
            .where(
                webhook_deliveries.c.id == delivery.id,
                _IS_PENDING,
                webhook_deliveries.c.n_attempts == delivery.attempt,
            )
            .values(attempts=webhook_deliveries.c.attempts.concat(_told(delivery, attempt)), **values)
        )
        return self._connection.execute(statement).rowcount == 1


def _told(delivery: ClaimedDelivery, attempt: Attempt) -> ColumnElement[Any]:
    """An attempt as the log of a delivery has it."""
    told = {
        "at": delivery.claimed_at.isoformat().replace("+00:00", "Z"),
        "status": attempt.status,
        "error": attempt.error,
        "duration_s": attempt.duration_s,
    }
    return literal([told], JSONB)


def _goes_to(delivery: ClaimedDelivery) -> ColumnElement[bool]:
    return and_(webhook_deliveries.c.tenant_id == delivery.tenant_id, webhook_deliveries.c.url == delivery.url)


def _delivery(row: RowMapping) -> Delivery:
    return Delivery(**{**row, "state": DeliveryState(row["state"])})
