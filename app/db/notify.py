"""NOTIFY inside a transaction: listeners hear of it when, and only when, it commits."""

from __future__ import annotations

from sqlalchemy import Connection, text

CHANNEL = "nightshift"


def notify(connection: Connection) -> None:
    """Wake the dispatcher after this transaction; it looks at the rows, so nothing is said."""
    connection.execute(text(f"NOTIFY {CHANNEL}"))
