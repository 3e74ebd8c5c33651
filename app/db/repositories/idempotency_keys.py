"""Rows of ``idempotency_keys``: the answers to creating requests, by the keys their clients gave them."""

from __future__ import annotations

from datetime import timedelta

from psycopg2.errors import LockNotAvailable
from sqlalchemy import ColumnElement, Connection, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError

from app.db.tables import idempotency_keys
from app.domain.idempotency import KeptAnswer, RequestKey
from app.errors import IdempotencyKeyInUse

_ONE_KEY = ["tenant_id", "route", "key"]
_RETRY_AFTER_S = 2.0
_LIMITS = text(
    "SELECT set_config('lock_timeout', :limit, true), set_config('idle_in_transaction_session_timeout', :limit, true)"
)


class IdempotencyKeys:
    """Keeps and finds answers inside one transaction. An answer older than ``max_age_s`` is not there."""

    def __init__(self, connection: Connection, *, max_age_s: int) -> None:
        self._connection = connection
        self._is_old = idempotency_keys.c.created_at <= func.now() - timedelta(seconds=max_age_s)

    def find(self, request: RequestKey) -> KeptAnswer | None:
        """The answer that is kept under a key."""
        columns = idempotency_keys.c
        query = select(columns.body_sha256, columns.status, columns.headers, columns.sealed_body).where(
            *_is(request), ~self._is_old
        )
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else KeptAnswer(**row)

    def add(self, request: RequestKey, answer: KeptAnswer, *, wait_s: int) -> bool:
        """Keep an answer; False where the key has one by now.

        Where another transaction has the key and is not committed, this waits until it ends. A transaction that
        holds the key and stands still for ``wait_s`` is ended by the database.

        Raises:
            IdempotencyKeyInUse: it did not end within ``wait_s``.
        """
        self._connection.execute(_LIMITS, {"limit": f"{wait_s}s"})
        values = {**_values(answer), "created_at": func.now()}
        statement = insert(idempotency_keys).values(
            tenant_id=request.tenant_id, route=request.route, key=request.key, **values
        )
        statement = statement.on_conflict_do_update(index_elements=_ONE_KEY, set_=values, where=self._is_old)
        try:
            return self._connection.execute(statement).rowcount == 1
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                message = "another request with this Idempotency-Key is being answered; send this one again"
                raise IdempotencyKeyInUse(message, retry_after_s=_RETRY_AFTER_S) from error
            raise

    def replace(self, request: RequestKey, answer: KeptAnswer) -> None:
        """Keep a fuller answer instead of the one this request kept before."""
        self._connection.execute(update(idempotency_keys).where(*_is(request)).values(_values(answer)))

    def sweep(self, limit: int) -> int:
        """Delete up to ``limit`` answers that are too old."""
        old = select(idempotency_keys.c.id).where(self._is_old).limit(limit).with_for_update(skip_locked=True)
        return self._connection.execute(delete(idempotency_keys).where(idempotency_keys.c.id.in_(old))).rowcount


def _is(request: RequestKey) -> tuple[ColumnElement[bool], ...]:
    columns = idempotency_keys.c
    return (
        columns.tenant_id.is_not_distinct_from(request.tenant_id),
        columns.route == request.route,
        columns.key == request.key,
    )


def _values(answer: KeptAnswer) -> dict[str, object]:
    return {
        "body_sha256": answer.body_sha256,
        "status": answer.status,
        "headers": answer.headers,
        "sealed_body": answer.sealed_body,
    }
