"""The database as services use it: one ``with database.begin()`` is one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.errors import DiskFull
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import DatabaseUnavailable

RETRY_AFTER_S = 2.0
PEER_SILENCE_S = 30


def network_options(*, connect_timeout_s: float) -> dict[str, Any]:
    """Options of libpq that end a connection whose other side went without a word; by default it takes hours."""
    return {
        "connect_timeout": max(1, int(connect_timeout_s)),
        "keepalives_idle": PEER_SILENCE_S // 3,
        "keepalives_interval": PEER_SILENCE_S // 3,
        "keepalives_count": 2,
        "tcp_user_timeout": PEER_SILENCE_S * 1000,
    }


def _reason(error: SQLAlchemyError) -> str:
    if isinstance(error.__cause__, DiskFull):
        return "the database's disk is full"
    return "the database does not answer"


class Database:
    """A pool of connections to Postgres; create one per process, after any fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def connect(
        cls, url: str, *, connect_timeout_s: float = 5.0, statement_timeout_s: float = 30.0, pool_size: int = 8
    ) -> Database:
        """Make the pool; no connection is opened yet."""
        options = f"-c statement_timeout={int(statement_timeout_s * 1000)} -c timezone=UTC"
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            pool_pre_ping=True,
            # Errors are logged and reported, and parameters hold clients' text.
            hide_parameters=True,
            connect_args={**network_options(connect_timeout_s=connect_timeout_s), "options": options},
        )
        return cls(engine)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction, committed on leaving, rolled back on any exception.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached, or the connection broke; whether a commit in flight took
                place is then unknown, so read again before acting.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except (OperationalError, PoolTimeout) as error:
            raise DatabaseUnavailable(_reason(error), retry_after_s=RETRY_AFTER_S) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise DatabaseUnavailable("the database connection broke", retry_after_s=RETRY_AFTER_S) from error
            raise

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction that only reads and sees one moment, however many statements it takes.

        Raises:
            DatabaseUnavailable: as ``begin``.
        """
        with self.begin() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield connection

    def check(self) -> None:
        """Raise DatabaseUnavailable unless Postgres answers."""
        with self.begin() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
