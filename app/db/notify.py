"""NOTIFY inside a transaction: listeners hear of it when, and only when, it commits."""

from __future__ import annotations

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from psycopg2.extensions import connection as PgConnection  # noqa: N812 - a class, whatever its name
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from app.db.session import network_options

CHANNEL = "nightshift"


def notify(connection: Connection) -> None:
    """Wake the dispatcher and listeners to events after this transaction; they look at rows, so nothing is said."""
    connection.execute(text(f"NOTIFY {CHANNEL}"))


def listening_session(url: str, *, connect_timeout_s: float, application_name: str) -> PgConnection:
    """A session of its own that hears every NOTIFY.

    Raises:
        psycopg2.Error: the database does not answer.
    """
    # As libpq reads it: an address may say more than where, for example ``?sslmode=verify-full``.
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    options = network_options(connect_timeout_s=connect_timeout_s)
    session: PgConnection = psycopg2.connect(dsn, application_name=application_name, **options)
    session.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with session.cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")
    return session
