"""The columns that many tables have, and what binds all tables together."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def moment(name: str, *, now: bool = False) -> Column[datetime]:
    """A point in time."""
    if now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
    return Column(name, DateTime(timezone=True))


def count(name: str) -> Column[int]:
    """A number that begins at zero."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def tenant_id() -> Column[str]:
    """Whose row it is."""
    return Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False)


def json(name: str, default: str) -> Column[Any]:
    """A JSON document."""
    return Column(name, JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


def quota(name: str, kind: TypeEngine[Any]) -> tuple[Column[Any], CheckConstraint]:
    """A number above zero; null where nothing was set."""
    return Column(name, kind), CheckConstraint(f"{name} > 0", name=f"{name}_above_zero")
