"""The core, turned by hand: real Postgres and object store, a real engine, and the test as broker, clock and worker."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any
from uuid import uuid4

from checker import Checker
from seeded_work import SeededItem, input_file
from sqlalchemy import create_engine, text

from app.db.migrate import upgrade
from app.db.repositories.files import Files
from app.db.repositories.jobs import Jobs
from app.db.repositories.tenants import Tenants
from app.db.repositories.workers import LiveWorker, Workers
from app.domain.files import BATCH_PURPOSE, File
from app.domain.groups import GroupDetails
from app.domain.ids import new_id
from app.domain.items import ItemOutcome
from app.domain.jobs import Dialect, Job, JobRequest
from app.domain.line_count import LineCounter
from app.domain.states import TERMINAL_JOB_STATES
from app.ports import DeathNotes, Grant, ItemRunner, RunRequest
from app.services.dispatch import Dispatcher
from app.services.finish_job import Finished, finish_job
from app.services.lead_group import Led, lead_group
from app.services.preparation import Prepared
from app.services.prepare_job import prepare_job
from app.services.run_chunk import Ran, run_chunk
from app.services.show_group import show_group
from app.services.submit_group import submit_group
from app.services.submit_job import submit_job
from app.wiring import Wiring, build_wiring
from config.queues import pool_of
from config.settings import Settings
from workers.device_lock import DeviceLock
from workers.engines.registry import EngineRegistry
from workers.pipeline import PipelineRunner

ECHO = "/v1/echo"
QUEUE = "cpu.0"
MOST_ROUNDS = 60

Row = dict[str, Any]


@dataclass(slots=True)
class HeldMessages:
    """A ``WorkPublisher`` that keeps what was published, as a broker without workers would."""

    prepares: list[str] = field(default_factory=list)
    waves: list[tuple[str, list[Grant]]] = field(default_factory=list)
    finishes: list[str] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)
    loses_everything: bool = False
    fails: Callable[[], None] = lambda: None

    def publish_prepare(self, job_id: str) -> None:
        self.fails()
        self.prepares.append(job_id)

    def publish_lead(self, group_id: str) -> None:
        self.fails()
        self.leads.append(group_id)

    def publish_webhook(self, delivery_id: str) -> None:
        self.fails()
        self.webhooks.append(delivery_id)

    def publish_wave(self, job_id: str, grants: Sequence[Grant]) -> None:
        self.fails()
        if grants:
            self.waves.append((job_id, list(grants)))

    def publish_finish(self, job_id: str) -> None:
        self.fails()
        self.finishes.append(job_id)

    def ready_counts(self, queues: Sequence[str]) -> dict[str, int]:
        held = [grant.queue for _, grants in self.waves for grant in grants]
        return {queue: 0 if self.loses_everything else held.count(queue) for queue in queues}

    def take_waves(self) -> list[tuple[str, list[Grant]]]:
        """Deliver every wave, as the workers would get them."""
        taken, self.waves = self.waves, []
        return taken


@dataclass(slots=True)
class Interrupted:
    """An ``ItemRunner`` around another: ``act`` is called in the middle of a chunk, before its first outcome."""

    runner: ItemRunner
    act: Callable[[], None]

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        outcomes = self.runner.run(request)
        self.act()
        yield from outcomes


@dataclass(slots=True)
class HeldUp:
    """An ``ItemRunner`` around another: ``act`` is called after ``after`` outcomes, then it waits to be stopped."""

    runner: ItemRunner
    after: int
    act: Callable[[], None]
    waits_s: float = 20.0

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        outcomes = self.runner.run(replace(request, should_stop=lambda: False))
        yield from islice(outcomes, self.after)
        self.act()
        deadline = time.monotonic() + self.waits_s
        while not request.should_stop():
            assert time.monotonic() < deadline, "nobody stopped the run"
            time.sleep(0.01)


@dataclass(slots=True)
class CoreMachine:
    """One installation's core with nobody else in it."""

    wiring: Wiring
    runner: ItemRunner
    publisher: HeldMessages
    dispatcher: Dispatcher
    tenant_id: str

    @property
    def checker(self) -> Checker:
        return Checker(self.wiring.database, self.wiring.storage)

    # -- what a client does

    def submit(self, items: Sequence[SeededItem], **fields: Any) -> str:
        """Submit inline items natively; gives the job's id."""
        inputs = tuple({"custom_id": item.custom_id, "body": item.body} for item in items)
        request = JobRequest(
            **{"dialect": Dialect.NATIVE, "endpoint": ECHO, "model": "echo", "inputs": inputs, **fields}
        )
        return submit_job(wiring=self.wiring, tenant_id=self.tenant_id, request=request).job.id

    def submit_content(self, content: bytes, *, dialect: Dialect = Dialect.OPENAI, **fields: Any) -> str:
        """Upload a file and submit it as a batch."""
        request = JobRequest(dialect=dialect, endpoint=ECHO, input_file_id=self.upload(content).id, **fields)
        return submit_job(wiring=self.wiring, tenant_id=self.tenant_id, request=request).job.id

    def submit_group(self, content: bytes, **fields: Any) -> str:
        """Upload a file and submit it natively, as a group whatever its size; gives the group's id."""
        file = self.upload(content)
        request = JobRequest(dialect=Dialect.NATIVE, endpoint=ECHO, input_file_id=file.id, **fields)
        return submit_group(wiring=self.wiring, tenant_id=self.tenant_id, request=request, file=file).group.id

    def upload(self, content: bytes) -> File:
        """Store a batch file of the tenant."""
        lines = LineCounter()
        lines.feed(content)
        stored = self.wiring.storage.put(f"files/{self.tenant_id}/{uuid4().hex}", io.BytesIO(content))
        with self.wiring.database.begin() as connection:
            return Files(connection).add(
                file_id=new_id("file-"),
                tenant_id=self.tenant_id,
                purpose=BATCH_PURPOSE,
                filename="input.jsonl",
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                n_lines=lines.n_lines,
                object_key=stored.key,
                expires_after_s=3600,
            )

    def submit_batch(self, items: Sequence[SeededItem]) -> str:
        """Submit items as an OpenAI batch."""
        return self.submit_content(input_file(items, endpoint=ECHO))

    # -- what the processes do

    def prepare(self, job_id: str) -> Prepared:
        return prepare_job(wiring=self.wiring, job_id=job_id)

    def lead(self, group_id: str) -> Led:
        return lead_group(wiring=self.wiring, group_id=group_id)

    def planned(self, items: Sequence[SeededItem], **fields: Any) -> str:
        """Submit and prepare; gives the job's id."""
        job_id = self.submit(items, **fields)
        assert self.prepare(job_id) is Prepared.PLANNED
        return job_id

    def look(self) -> None:
        self.dispatcher.look()

    def run(
        self,
        chunk_id: int,
        *,
        holder: str = "worker-1",
        queue: str = QUEUE,
        runner: ItemRunner | None = None,
        is_leaving: Callable[[], bool] = lambda: False,
        death_notes: DeathNotes | None = None,
    ) -> Ran:
        return run_chunk(
            wiring=self.wiring,
            runner=runner or self.runner,
            chunk_id=chunk_id,
            queue=queue,
            holder=holder,
            is_leaving=is_leaving,
            death_notes=death_notes,
        )

    def finish(self, job_id: str) -> Finished:
        return finish_job(wiring=self.wiring, job_id=job_id)

    def worker_lives(
        self,
        queue: str = QUEUE,
        incarnation: str = "worker-1",
        *,
        warm: tuple[str, ...] = ("echo",),
        unloadable: tuple[str, ...] = (),
    ) -> None:
        with self.wiring.database.begin() as connection:
            worker = LiveWorker(queue, pool_of(queue), "here", incarnation, warm, unloadable)
            assert Workers(connection).report(worker, silence_s=self.wiring.settings.worker_silence_s)

    def granted(self, job_id: str) -> list[int]:
        """Let the dispatcher look once; gives the ids of the job's chunks that it published."""
        self.worker_lives()
        self.look()
        return [grant.chunk_id for job, grants in self.publisher.take_waves() for grant in grants if job == job_id]

    def drive(self, job_id: str) -> Job:
        """Turn everything until the job has ended; waiting is skipped."""
        for _ in range(MOST_ROUNDS):
            if self.job(job_id).state in TERMINAL_JOB_STATES:
                return self.job(job_id)
            self.waiting_is_over(job_id)
            self.worker_lives()
            self.look()
            for prepared in self.publisher.prepares:
                self.prepare(prepared)
            self.publisher.prepares.clear()
            for wave_of, grants in self.publisher.take_waves():
                for grant in grants:
                    self.run(grant.chunk_id, queue=grant.queue)
                self.finish(wave_of)
            self.finish(job_id)
        raise AssertionError(f"{job_id} did not end in {MOST_ROUNDS} rounds: {self.chunks(job_id)}")

    def drive_group(self, group_id: str) -> GroupDetails:
        """Turn everything until the group has ended and is closed."""
        for _ in range(MOST_ROUNDS):
            details = self.group(group_id)
            if details.group.closed_at is not None:
                return details
            self.worker_lives()
            self.look()
            for led in self.publisher.leads:
                self.lead(led)
            self.publisher.leads.clear()
            for prepared in self.publisher.prepares:
                self.prepare(prepared)
            self.publisher.prepares.clear()
            for job_id, grants in self.publisher.take_waves():
                for grant in grants:
                    self.run(grant.chunk_id, queue=grant.queue)
                self.finish(job_id)
            for member in self.group(group_id).members:
                self.waiting_is_over(member.id)
                self.finish(member.id)
            self.lead(group_id)
        raise AssertionError(f"{group_id} did not end in {MOST_ROUNDS} rounds: {self.group(group_id).state}")

    # -- time

    def waiting_is_over(self, job_id: str) -> None:
        """Let ``not_before`` of every chunk of a job pass."""
        self.sql("UPDATE chunks SET not_before = now() WHERE job_id = :id", id=job_id)

    def lease_runs_out(self, chunk_id: int) -> None:
        self.sql("UPDATE chunks SET lease_until = now() - interval '1 second' WHERE id = :id", id=chunk_id)

    def window_closes(self, job_id: str) -> None:
        self.sql("UPDATE jobs SET deadline_at = now() - interval '1 second' WHERE id = :id", id=job_id)

    def patience_ends(self) -> None:
        """What was published or finished just now was so a minute ago."""
        self.sql(
            "UPDATE chunks SET granted_at = granted_at - interval '1 minute',"
            " finished_at = finished_at - interval '1 minute'"
        )

    # -- what a test looks at

    def job(self, job_id: str) -> Job:
        with self.wiring.database.begin() as connection:
            return Jobs(connection).get(self.tenant_id, job_id)

    def group(self, group_id: str) -> GroupDetails:
        return show_group(wiring=self.wiring, tenant_id=self.tenant_id, group_id=group_id)

    def chunks(self, job_id: str) -> list[Row]:
        return self.sql("SELECT * FROM chunks WHERE job_id = :id ORDER BY ordinal", id=job_id)

    def chunk(self, chunk_id: int) -> Row:
        return self.sql("SELECT * FROM chunks WHERE id = :id", id=chunk_id)[0]

    def sql(self, statement: str, **values: Any) -> list[Row]:
        with self.wiring.database.begin() as connection:
            result = connection.execute(text(statement), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []


@contextmanager
def core_machine(servers: dict[str, str], **changes: Any) -> Iterator[CoreMachine]:
    """A machine on a database of its own, so that no other test's jobs are in its way."""
    settings = Settings.from_environ(servers)
    with fresh_database(settings) as url:
        settings = replace(settings, database_url=url, queues=(QUEUE,), **changes)
        upgrade(settings)
        with machine_on(settings) as machine:
            yield machine


@contextmanager
def machine_on(settings: Settings) -> Iterator[CoreMachine]:
    """A machine on the migrated database of the settings, as its user."""
    wiring = build_wiring(settings)
    publisher = HeldMessages()
    engines = EngineRegistry(wiring.models, pool="cpu", device="cpu")
    with wiring.database.begin() as connection:
        tenant_id = Tenants(connection).id_of("tester")
    yield CoreMachine(
        wiring=wiring,
        runner=PipelineRunner(engines, DeviceLock()),
        publisher=publisher,
        dispatcher=Dispatcher(settings=settings, models=wiring.models, database=wiring.database, publisher=publisher),
        tenant_id=tenant_id,
    )
    wiring.database.close()


@contextmanager
def fresh_database(settings: Settings) -> Iterator[str]:
    """An empty database beside that of the servers; gives its address."""
    name = f"test_{uuid4().hex}"
    base = settings.database_url.rpartition("/")[0]
    admin = create_engine(settings.database_url, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield f"{base}/{name}"
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        admin.dispose()
