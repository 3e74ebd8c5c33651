"""The database's two users of docker/postgres/roles.sql: one owns the tables, the other does all the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import pytest
from core_machine import QUEUE, CoreMachine, fresh_database, machine_on
from psycopg2 import sql
from seeded_work import expected_of, mixed
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from app.db.migrate import head_revision, upgrade
from app.services.check_installation import check_installation
from app.services.recount_storage import recount_storage
from app.services.sum_up_work import sum_up_work
from app.services.sweep_expired import sweep_expired
from config.settings import Settings
from workers.dispatcher import Leadership

ROLES = Path(__file__).parents[3] / "docker" / "postgres" / "roles.sql"
OWNER, APP = "nightshift_owner", "nightshift_app"
PASSWORD = "made-for-this-test"


@dataclass(frozen=True, slots=True)
class Installation:
    """A database as an administrator prepares it, migrated by its owner."""

    app: Settings
    owner_url: str
    admin_url: str


def _as(url: str, user: str) -> str:
    return make_url(url).set(username=user, password=PASSWORD).render_as_string(hide_password=False)


def _administer(url: str, *statements: str | sql.Composable) -> None:
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    session = psycopg2.connect(dsn)
    session.autocommit = True
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    session.close()


@pytest.fixture(scope="module")
def installation(servers: dict[str, str]) -> Iterator[Installation]:
    settings = Settings.from_environ(servers)
    passwords = [
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(PASSWORD))
        for name in (OWNER, APP)
    ]
    with fresh_database(settings) as url:
        # Twice: running it again changes nothing.
        _administer(url, ROLES.read_text("utf-8"), ROLES.read_text("utf-8"), *passwords)
        owner = replace(settings, database_url=_as(url, OWNER))
        assert upgrade(owner) == head_revision()
        app = replace(settings, database_url=_as(url, APP), queues=(QUEUE,), chunk_max_items=4)
        yield Installation(app, owner.database_url, url)
    _administer(settings.database_url, f"DROP ROLE {APP}", f"DROP ROLE {OWNER}")


@pytest.fixture(scope="module")
def core(installation: Installation) -> Iterator[CoreMachine]:
    with machine_on(installation.app) as machine:
        yield machine


def test_a_job_goes_from_its_submit_to_its_end_as_the_user_of_the_work(core: CoreMachine) -> None:
    items = mixed(30, seed=3)
    job_id = core.submit(items)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_that_user_does_the_housekeeping_and_the_doctor_as_well(core: CoreMachine) -> None:
    sum_up_work(database=core.wiring.database)
    sweep_expired(wiring=core.wiring)
    recount_storage(wiring=core.wiring)
    checks = {check.name: check.state for check in check_installation(settings=core.wiring.settings)}
    assert (checks["postgres"], checks["migrations"], checks["stuck work"]) == ("ok", "ok", "ok")


def test_a_standby_ends_the_session_of_a_frozen_leader_as_that_user(installation: Installation) -> None:
    url = installation.app.database_url
    frozen, standby = (Leadership(url, connect_timeout_s=5, silence_s=0) for _ in range(2))
    assert frozen.acquire()
    assert not standby.acquire(), "it ends the other's session first"
    assert standby.acquire()
    with pytest.raises(psycopg2.OperationalError):
        frozen.acquire()
    standby.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (n integer)",
        "DROP TABLE jobs",
        "ALTER TABLE jobs ADD COLUMN mine integer",
        "TRUNCATE jobs CASCADE",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "ALTER ROLE nightshift_owner PASSWORD 'mine'",
        "COPY jobs TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_that_user_can_change_rows_and_nothing_else(core: CoreMachine, statement: str) -> None:
    refused = pytest.raises(ProgrammingError, match=r"permission denied|must be owner|no privileges")
    with refused, core.wiring.database.begin() as connection:
        connection.execute(text(statement))


def test_a_table_of_a_later_migration_is_its_at_once(core: CoreMachine, installation: Installation) -> None:
    _administer(installation.owner_url, "CREATE TABLE later (n integer GENERATED ALWAYS AS IDENTITY, what text)")
    with core.wiring.database.begin() as connection:
        connection.execute(text("INSERT INTO later (what) VALUES ('a row')"))
        assert connection.execute(text("DELETE FROM later RETURNING n")).scalar_one() == 1
    _administer(installation.owner_url, "DROP TABLE later")
