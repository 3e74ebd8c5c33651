"""Rows of ``webhook_endpoints``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, func, null, select, tuple_

from app.db.tables import webhook_deliveries, webhook_endpoints
from app.domain.pages import Page, page_of
from app.domain.webhooks import ClaimedDelivery, DeliveryState, WebhookEndpoint
from app.errors import NotFound

_FIELDS = [webhook_endpoints.c[spec.name] for spec in dataclasses.fields(WebhookEndpoint)]
# The old secret while it signs; by the database's clock.
_OLD_SECRET = case(
    (webhook_endpoints.c.old_secret_until > func.now(), webhook_endpoints.c.sealed_old_secret), else_=null()
).label("sealed_old_secret")


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """The secrets of an endpoint that are valid now, the newest first."""

    endpoint_id: str
    sealed: list[bytes]


class WebhookEndpoints:
    """Reads and changes endpoints inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, tenant_id: str, **values: Any) -> WebhookEndpoint:
        """Insert an endpoint."""
        statement = webhook_endpoints.insert().values(tenant_id=tenant_id, **values).returning(*_FIELDS)
        return WebhookEndpoint(**self._connection.execute(statement).mappings().one())

    def count(self, tenant_id: str) -> int:
        """How many endpoints a tenant has. Of two that are made at once, both may be counted too late."""
        query = select(func.count()).where(
            webhook_endpoints.c.tenant_id == tenant_id, webhook_endpoints.c.deleted_at.is_(None)
        )
        return self._connection.execute(query).scalar_one()

    def get(self, tenant_id: str, endpoint_id: str, *, param: str = "id") -> WebhookEndpoint:
        """One endpoint of a tenant.

        Raises:
            NotFound: no such endpoint, another tenant's, or deleted.
        """
        query = select(*_FIELDS).where(_of(tenant_id, endpoint_id))
        row = None if "\0" in endpoint_id else self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise _not_found(endpoint_id, param)
        return WebhookEndpoint(**row)

    def list(self, tenant_id: str, *, limit: int, after: str | None) -> Page[WebhookEndpoint]:
        """A tenant's endpoints, newest first.

        Raises:
            NotFound: there is no endpoint ``after``.
        """
        query = select(*_FIELDS).where(
            webhook_endpoints.c.tenant_id == tenant_id, webhook_endpoints.c.deleted_at.is_(None)
        )
        place = tuple_(webhook_endpoints.c.created_at, webhook_endpoints.c.id)
        if after is not None:
            mark = self.get(tenant_id, after, param="after")
            query = query.where(place < (mark.created_at, mark.id))
        query = query.order_by(webhook_endpoints.c.created_at.desc(), webhook_endpoints.c.id.desc()).limit(limit + 1)
        return page_of([WebhookEndpoint(**row) for row in self._connection.execute(query).mappings()], limit)

    def update(self, tenant_id: str, endpoint_id: str, **values: Any) -> WebhookEndpoint:
        """Change what an endpoint is told and where; what it is still to be told goes to its new address.

        Raises:
            NotFound: see ``get``.
        """
        changed = self._change(tenant_id, endpoint_id, updated_at=func.now(), **values)
        pending = webhook_deliveries.update().where(_pending_of(endpoint_id))
        self._connection.execute(pending.values(url=changed.url))
        return changed

    def rotate(self, tenant_id: str, endpoint_id: str, *, overlap_s: int, **values: Any) -> WebhookEndpoint:
        """Give an endpoint a new secret; the one before signs as well for ``overlap_s``.

        Raises:
            NotFound: see ``get``.
        """
        return self._change(
            tenant_id,
            endpoint_id,
            updated_at=func.now(),
            sealed_old_secret=webhook_endpoints.c.sealed_secret,
            old_secret_until=func.now() + timedelta(seconds=overlap_s),
            **values,
        )

    def delete(self, tenant_id: str, endpoint_id: str) -> None:
        """Delete an endpoint; what it was still to be told is dropped.

        Raises:
            NotFound: see ``get``.
        """
        self._change(tenant_id, endpoint_id, deleted_at=func.now())
        pending = webhook_deliveries.update().where(_pending_of(endpoint_id))
        self._connection.execute(pending.values(state=DeliveryState.DROPPED, ended_at=func.now()))

    def secrets_of(self, tenant_id: str, endpoint_id: str) -> SealedSecrets:
        """The valid secrets of an endpoint that was just read."""
        query = select(webhook_endpoints.c.id, webhook_endpoints.c.sealed_secret, _OLD_SECRET)
        return _sealed(self._connection.execute(query.where(_of(tenant_id, endpoint_id))).mappings().one())

    def sealed_secrets(self, delivery: ClaimedDelivery) -> SealedSecrets | None:
        """The valid secrets of the endpoint that a delivery is for, or that is registered under its address.

        None where there is none: the receiver was named by a job alone.
        """
        query = (
            select(webhook_endpoints.c.id, webhook_endpoints.c.sealed_secret, _OLD_SECRET)
            .where(
                webhook_endpoints.c.tenant_id == delivery.tenant_id,
                webhook_endpoints.c.id == delivery.endpoint_id
                if delivery.endpoint_id is not None
                else and_(webhook_endpoints.c.url == delivery.url, webhook_endpoints.c.deleted_at.is_(None)),
            )
            .order_by(webhook_endpoints.c.created_at)
            .limit(1)
        )
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else _sealed(row)

    def _change(self, tenant_id: str, endpoint_id: str, **values: Any) -> WebhookEndpoint:
        statement = webhook_endpoints.update().where(_of(tenant_id, endpoint_id)).values(**values).returning(*_FIELDS)
        row = None if "\0" in endpoint_id else self._connection.execute(statement).mappings().one_or_none()
        if row is None:
            raise _not_found(endpoint_id, "id")
        return WebhookEndpoint(**row)


def _of(tenant_id: str, endpoint_id: str) -> ColumnElement[bool]:
    return and_(
        webhook_endpoints.c.tenant_id == tenant_id,
        webhook_endpoints.c.id == endpoint_id,
        webhook_endpoints.c.deleted_at.is_(None),
    )


def _pending_of(endpoint_id: str) -> ColumnElement[bool]:
    return and_(webhook_deliveries.c.endpoint_id == endpoint_id, webhook_deliveries.c.state == DeliveryState.PENDING)


def _sealed(row: RowMapping) -> SealedSecrets:
    sealed = (row["sealed_secret"], row["sealed_old_secret"])
    return SealedSecrets(row["id"], [bytes(one) for one in sealed if one is not None])


def _not_found(endpoint_id: str, param: str) -> NotFound:
    return NotFound(f"There is no webhook endpoint {endpoint_id[:80]!r}.", param=param)
