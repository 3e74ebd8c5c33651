"""Which dispatcher leads, as Postgres knows it: the leader holds a lock for as long as its session lives."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

LEADER_LOCK = 0x6E696768  # "nigh"

_LEADER = text(
    """
    SELECT extract(epoch FROM clock_timestamp() - max(a.state_change))
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = :lock AND l.objsubid = 1
        AND a.datname = current_database()
    """
)


@dataclass(frozen=True, slots=True)
class Leader:
    """The dispatcher that leads."""

    silence_s: float
    """Since its session last said something, which it does at the beginning of every look."""


def find_leader(connection: Connection) -> Leader | None:
    """The leader, from whichever process; None where nobody leads."""
    silence_s = connection.execute(_LEADER, {"lock": LEADER_LOCK}).scalar_one()
    return None if silence_s is None else Leader(float(silence_s))
