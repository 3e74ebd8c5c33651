"""Rows of ``tenants``."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import tenants
from app.domain.ids import new_id


class Tenants:
    """Everybody who has keys."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def id_of(self, name: str) -> str:
        """The id of the tenant with this name, made where it is new."""
        self._connection.execute(
            insert(tenants).values(id=new_id("tenant_"), name=name).on_conflict_do_nothing(index_elements=["name"])
        )
        found: str = self._connection.execute(select(tenants.c.id).where(tenants.c.name == name)).scalar_one()
        return found
