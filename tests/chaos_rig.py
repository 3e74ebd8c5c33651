"""A running stack, jobs whose outcomes are known, and the means to break things under them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psutil
import redis
from celery import Celery
from checker import Checker
from kombu import Connection
from running_stack import RunningStack
from seeded_work import SeededItem, expected_of
from sqlalchemy import text

from app.domain.states import TERMINAL_JOB_STATES
from app.wiring import Wiring
from config.celery import celery_config
from config.settings import Settings

ENDS_WITHIN_S = 60
SLOW_RATE_TOKENS_PER_S = 30
"""So low that a few items make a chunk, and a small job makes waves."""


@dataclass(frozen=True, slots=True)
class ChaosRig:
    """One stack, broken on purpose."""

    stack: RunningStack
    wiring: Wiring

    @property
    def settings(self) -> Settings:
        return self.wiring.settings

    def submit(self, items: Sequence[SeededItem], *, chunks: str = "one", **fields: Any) -> str:
        """Submit a job over HTTP; its items lie in ``one`` chunk or in ``many``."""
        rate = SLOW_RATE_TOKENS_PER_S if chunks == "many" else 200_000
        self.sql(
            "INSERT INTO model_rates (model, version, pool, tokens_per_s) VALUES ('echo', 'v1', 'cpu', :rate)"
            " ON CONFLICT (model, version, pool) DO UPDATE SET tokens_per_s = excluded.tokens_per_s",
            rate=rate,
        )
        inputs = [{"custom_id": item.custom_id, "body": item.body} for item in items]
        with self.stack.client() as client:
            answer = client.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", "inputs": inputs, **fields})
        return str(answer.raise_for_status().json()["id"])

    def wait_until_running(self, job_id: str) -> dict[str, Any]:
        """Wait until a worker computes a chunk of a job; gives the chunk's row."""
        query = "SELECT * FROM chunks WHERE job_id = :id AND state = 'running' ORDER BY claimed_at LIMIT 1"
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not (rows := self.sql(query, id=job_id)):
            assert time.monotonic() < deadline, f"{job_id} does not run: {self.state(job_id)}"
            time.sleep(0.02)
        return rows[0]

    def wait_until_ended(self, job_id: str, *, within_s: float = ENDS_WITHIN_S) -> None:
        self.stack.wait_until(lambda: self.has_ended(job_id), timeout_s=within_s, what=f"the end of {job_id}")

    def has_ended(self, job_id: str) -> bool:
        return self.state(job_id) in TERMINAL_JOB_STATES

    def check(self, job_id: str, items: Sequence[SeededItem], *, within_s: float = ENDS_WITHIN_S) -> None:
        """Wait for a job's end and check every promise."""
        self.wait_until_ended(job_id, within_s=within_s)
        checker = Checker(self.wiring.database, self.wiring.storage)
        checker.check_job(job_id, expected_of(items))
        checker.check_all()

    def state(self, job_id: str) -> str:
        return str(self.sql("SELECT state FROM jobs WHERE id = :id", id=job_id)[0]["state"])

    def child_of(self, worker: str) -> int:
        """The pid of the process that holds a device worker's engines."""
        (child,) = psutil.Process(self.stack.pid(worker)).children()
        return int(child.pid)

    def redis(self) -> redis.Redis[bytes]:
        return redis.Redis.from_url(self.settings.redis_url)

    def purge_device_queues(self) -> int:
        """Throw away every chunk message that waits; gives how many."""
        with Connection(self.settings.broker_url) as connection, closing(connection.channel()) as channel:
            return sum(channel.queue_purge(queue) for queue in self.settings.queues)

    def send_again(self, chunk: dict[str, Any], *, times: int) -> None:
        """Publish a chunk's message by hand, as a redelivery would."""
        with Celery("sender", set_as_current=False) as sender:
            sender.conf.update(celery_config(self.settings))
            kwargs = {"chunk_id": chunk["id"], "grant": chunk["grants"], "version": 1}
            for _ in range(times):
                sender.send_task("nightshift.run_chunk", kwargs=kwargs, queue=chunk["queue"], ignore_result=True)

    def sql(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        with self.wiring.database.begin() as connection:
            result = connection.execute(text(statement), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []
