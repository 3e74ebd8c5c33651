"""What is measured: a local stack of the bench's own or one that runs already, or an installation far away.

Every job that the bench makes is noted, so that the checker can look at all of them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from checker import Checker
from nightshift_local.home import Home
from nightshift_local.stack import Stack, read_env

from app.db.repositories.workers import Workers
from app.wiring import build_wiring
from config.queues import pool_of
from config.settings import Settings, load_client_settings
from tests.bench.clients import Api


@dataclass(slots=True)
class Bed:
    """An installation under measurement."""

    api: Api
    stack: Stack | None
    say: Callable[[str], None]
    folder: Path
    """For what is uploaded and downloaded."""

    @property
    def local(self) -> Stack:
        """The stack, for what looks at its processes.

        Raises:
            RuntimeError: the installation is far away.
        """
        if self.stack is None:
            raise RuntimeError("this is measured on a local stack only")
        return self.stack

    @property
    def settings(self) -> Settings:
        """What the stack's processes read."""
        return Settings.from_environ(read_env(self.local.home.settings_file))

    @property
    def cpu_queues(self) -> list[str]:
        """The queues of the stack's CPU workers."""
        return [queue for queue in self.settings.queues if pool_of(queue) == "cpu"]

    def processes(self, *names: str) -> list[psutil.Process]:
        """Processes of the stack with all their children."""
        found = []
        for state, _ in self.local.states():
            if state.name in names and state.pid:
                parent = psutil.Process(state.pid)
                found += [parent, *parent.children(recursive=True)]
        return found

    @contextmanager
    def without(self, names: Sequence[str]) -> Iterator[None]:
        """Stop processes of the stack, and start them again."""
        supervisor = self.local._supervisor()
        supervisor.stop_programs(names, timeout_s=60)
        try:
            yield
        finally:
            for name in names:
                supervisor.start_program(name)

    @contextmanager
    def tenant(self, name: str, **quota: float | None) -> Iterator[Api]:
        """A tenant with these quotas while the block runs; its jobs are noted as the bench's own."""
        env = read_env(self.local.home.env_file)
        with (
            httpx.Client(
                base_url=env["NIGHTSHIFT_URL"], headers={"Authorization": f"Bearer {env['NIGHTSHIFT_ADMIN_KEY']}"}
            ) as admin,
            Api(env["NIGHTSHIFT_URL"], _new_key(admin, name)) as api,
        ):
            admin.patch(f"/v1/admin/tenants/{name}", json=quota).raise_for_status()
            try:
                yield api
            finally:
                admin.patch(f"/v1/admin/tenants/{name}", json=dict.fromkeys(quota)).raise_for_status()
                self.api.note_jobs(api.take_job_ids())

    def n_warm_workers(self, *models: str) -> int:
        """Workers that are heard of and have loaded these models."""
        settings = self.settings
        wiring = build_wiring(settings)
        with wiring.database.begin() as connection:
            live = Workers(connection).live(silence_s=settings.worker_silence_s)
        wiring.database.close()
        return sum(set(models) <= set(worker.warm_models) for worker in live)

    def check(self) -> int:
        """Run the checker over every job that was made, and over the installation; how many jobs it looked at.

        Raises:
            AssertionError: a promise was broken, so the figures are worth nothing.
        """
        job_ids = self.api.take_job_ids()
        if self.stack is None:
            return 0
        wiring = build_wiring(self.settings)
        checker = Checker(wiring.database, wiring.storage)
        for job_id in job_ids:
            checker.check_job(job_id)
        checker.check_all()
        wiring.database.close()
        return len(job_ids)


def _new_key(admin: httpx.Client, tenant: str) -> str:
    return str(admin.post("/v1/admin/keys", json={"tenant": tenant}).raise_for_status().json()["key"])


@contextmanager
def own_bed(folder: Path, *, say: Callable[[str], None]) -> Iterator[Bed]:
    """Start every server and process in ``folder``; stop them at the end."""
    stack = Stack(Home(folder / "stack"), say)
    try:
        stack.up()
        with _bed_of(stack, folder, say) as bed:
            yield bed
    finally:
        stack.down()


@contextmanager
def running_bed(home: Path, folder: Path, *, say: Callable[[str], None]) -> Iterator[Bed]:
    """The local stack that runs in ``home``."""
    with _bed_of(Stack(Home(home.resolve()), say), folder, say) as bed:
        yield bed


@contextmanager
def distant_bed(folder: Path, *, say: Callable[[str], None]) -> Iterator[Bed]:
    """The installation that the command line would speak to."""
    settings = load_client_settings()
    with Api(settings.url, settings.api_key) as api:
        yield Bed(api, None, say, folder)


@contextmanager
def _bed_of(stack: Stack, folder: Path, say: Callable[[str], None]) -> Iterator[Bed]:
    env = read_env(stack.home.env_file)
    with Api(env["NIGHTSHIFT_URL"], env["NIGHTSHIFT_API_KEY"]) as api:
        yield Bed(api, stack, say, folder)
