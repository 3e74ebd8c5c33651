"""Each quota of a tenant holds on the running stack, from the moment it is set and as long as jobs run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from running_stack import RunningStack
from sqlalchemy import func, select

from app.db.session import Database
from app.db.tables import chunks, jobs
from app.domain.states import RUNNABLE_JOB_STATES, TERMINAL_JOB_STATES, ChunkState
from config.settings import Settings

pytestmark = pytest.mark.slow

DELAY_S = 0.05
ITEMS_OF_A_JOB = 40  # two seconds on one worker
PATIENCE_S = 80


@dataclass
class Tenant:
    """A tenant that nobody else uses, seen as client, as administrator and in the rows."""

    name: str
    api: httpx.Client
    admin: httpx.Client
    database: Database
    job_ids: list[str] = field(default_factory=list)

    def set_quota(self, **quota: Any) -> None:
        self.admin.patch(f"/v1/admin/tenants/{self.name}", json=quota).raise_for_status()

    def submit(self, n_jobs: int = 1, **fields: Any) -> list[str]:
        body = {"model": "echo", "input": "wait", "echo": {"delay_s": DELAY_S}}
        inputs = [{"custom_id": str(number), "body": body} for number in range(ITEMS_OF_A_JOB)]
        made = []
        for _ in range(n_jobs):
            request = {"endpoint": "/v1/echo", "model": "echo", "inputs": inputs, **fields}
            made.append(self.api.post("/v1/jobs", json=request).raise_for_status().json()["id"])
        self.job_ids += made
        return made

    def states(self) -> dict[str, str]:
        return {job_id: self.api.get(f"/v1/jobs/{job_id}").json()["state"] for job_id in self.job_ids}

    def n_with_workers(self) -> int:
        """Chunks that are granted or running at one moment."""
        busy = chunks.c.state.in_([ChunkState.GRANTED, ChunkState.RUNNING])
        return self._count(select(func.count()).where(busy, chunks.c.job_id.in_(self.job_ids)))

    def n_admitted(self) -> int:
        return self._count(select(func.count()).where(*self._admitted()))

    def tokens_of(self, job_id: str) -> int:
        return self._count(select(jobs.c.remaining_tokens).where(jobs.c.id == job_id))

    def largest_until_the_end(self, measure: Callable[[], int]) -> int:
        """What ``measure`` gave at most while the tenant's jobs ran; all of them must succeed."""
        largest, give_up_at = 0, time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            largest = max(largest, *(measure() for _ in range(20)))
            states = self.states()
            if set(states.values()) <= TERMINAL_JOB_STATES:
                assert set(states.values()) == {"succeeded"}
                return largest
        raise AssertionError(f"not all ended: {states}")

    def _admitted(self) -> tuple[Any, ...]:
        return (
            jobs.c.id.in_(self.job_ids),
            jobs.c.admitted_at.is_not(None),
            jobs.c.state.in_(RUNNABLE_JOB_STATES),
        )

    def _count(self, query: Any) -> int:
        with self.database.begin() as connection:
            return int(connection.execute(query).scalar_one())


@pytest.fixture
def database(stack: RunningStack) -> Iterator[Database]:
    made = Database.connect(Settings.from_environ(stack.settings).database_url)
    yield made
    made.close()


@pytest.fixture
def new_tenant(stack: RunningStack, database: Database) -> Iterator[Callable[[], Tenant]]:
    clients: list[httpx.Client] = []

    def make() -> Tenant:
        name = f"quota-{uuid4().hex[:12]}"
        clients.extend([stack.client(stack.new_key(name)), stack.client(stack.admin_key)])
        return Tenant(name, clients[-2], clients[-1], database)

    yield make
    for client in clients:
        client.close()


def test_no_more_jobs_run_than_max_running_jobs(new_tenant: Callable[[], Tenant]) -> None:
    tenant = new_tenant()
    tenant.set_quota(max_running_jobs=1)
    tenant.submit(3)
    assert tenant.largest_until_the_end(tenant.n_admitted) == 1


def test_no_more_chunks_are_with_workers_than_max_chunks(new_tenant: Callable[[], Tenant]) -> None:
    tenant = new_tenant()
    tenant.set_quota(max_chunks=1)
    tenant.submit(2)
    assert tenant.largest_until_the_end(tenant.n_with_workers) == 1


def test_no_more_tokens_are_admitted_than_max_enqueued_tokens(new_tenant: Callable[[], Tenant]) -> None:
    """Its first job alone is above the quota, and runs alone; the quota is set while it runs."""
    tenant = new_tenant()
    (first,) = tenant.submit()
    RunningStack.wait_until(lambda: tenant.n_admitted() == 1, timeout_s=30, what="the first job to begin")
    tokens = tenant.tokens_of(first)
    tenant.set_quota(max_enqueued_tokens=max(1, tokens // 2))
    tenant.submit(3)
    assert tenant.largest_until_the_end(tenant.n_admitted) == 1
    tenant.set_quota(max_enqueued_tokens=10**9)
    tenant.submit(3)
    assert tenant.largest_until_the_end(tenant.n_admitted) >= 2


def test_work_is_shared_by_weight(new_tenant: Callable[[], Tenant]) -> None:
    """While both have work, three quarters of the chunks that end are the heavier one's."""
    heavy, light = new_tenant(), new_tenant()
    heavy.set_quota(weight=3)
    light.set_quota(weight=1)
    heavy.submit(9)
    light.submit(9)
    heavy.largest_until_the_end(lambda: 0)
    with heavy.database.begin() as connection:
        heavy_end = select(func.max(chunks.c.finished_at)).where(chunks.c.job_id.in_(heavy.job_ids)).scalar_subquery()
        used = select(func.sum(chunks.c.device_s)).where(chunks.c.finished_at <= heavy_end)
        of_heavy, of_light = (
            float(connection.execute(used.where(chunks.c.job_id.in_(tenant.job_ids))).scalar_one() or 0)
            for tenant in (heavy, light)
        )
    assert of_heavy / (of_heavy + of_light) == pytest.approx(3 / 4, abs=0.1)
    light.largest_until_the_end(lambda: 0)
