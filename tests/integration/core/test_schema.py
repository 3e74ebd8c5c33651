"""Migrations and tables.py say the same, and migrating is safe for two at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from core_machine import CoreMachine

from app.db.migrate import current_revision, head_revision, upgrade
from app.db.tables import metadata


def test_migrations_and_tables_agree(core: CoreMachine) -> None:
    with core.wiring.database.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert current_revision(connection) == head_revision()


def test_migrating_twice_at_once_changes_nothing(core: CoreMachine) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: upgrade(core.wiring.settings), range(3))) == {head_revision()}


def test_every_row_of_a_tenant_carries_its_tenant() -> None:
    shared = {"tenants", "workers", "drains", "model_rates", "pool_outlooks", "dead_letters", "alembic_version"}
    shared |= {"work_totals", "work_totals_until"}
    for table in metadata.sorted_tables:
        assert table.name in shared or "tenant_id" in table.c, table.name
