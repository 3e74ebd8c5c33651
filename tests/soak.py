"""Random kills under a mixed load, from a seed: what is killed, and when, and what the clients ask for."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx
import psutil
from chaos_rig import ChaosRig
from checker import Checker
from seeded_work import Expected, SeededItem, mixed

PAUSES_S = (1.0, 4.0)
"""Between two kills."""
MOST_LIVE_JOBS = 6
DRAINED_WITHIN_S = 180
SERVERS = ("postgres", "rabbitmq", "redis", "s3")
EMBEDDING_MODEL = "all-MiniLM-L6-v2"


@dataclass(slots=True)
class Soak:
    """One soak.

    Attributes:
        seed: the same seed kills the same processes in the same order; the moments depend on the machine.
        kills_servers: whether a backing server may be killed as well.
    """

    rig: ChaosRig
    seed: int
    kills_servers: bool = False
    killed: Counter[str] = field(default_factory=Counter)
    jobs: dict[str, Mapping[str, Expected] | None] = field(default_factory=dict)
    n_refused: int = 0

    def run(self, *, seconds: float) -> None:
        """Kill for so long, let everything drain, and check every promise.

        The pauses are filled with the clients' work.
        """
        chance, killing = (random.Random(f"{self.seed} {what}") for what in ("work", "kills"))  # noqa: S311 - no secret
        ends_at_s = time.monotonic() + seconds
        kill_at_s = time.monotonic()
        while time.monotonic() < ends_at_s:
            self._act_as_client(chance)
            if time.monotonic() >= kill_at_s:
                self._kill(killing)
                kill_at_s = time.monotonic() + killing.uniform(*PAUSES_S)
            time.sleep(0.1)
        self._drain_and_check()

    def _act_as_client(self, chance: random.Random) -> None:
        """Keep a few jobs going; now and then cancel one."""
        try:
            live = self._live_jobs()
            if len(live) < MOST_LIVE_JOBS:
                self._submit(chance)
            elif chance.random() < 0.1:
                self._cancel(chance.choice(live))
        except (httpx.HTTPError, OSError):
            self.n_refused += 1

    def _live_jobs(self) -> list[str]:
        with self.rig.stack.client() as client:
            answer = client.get("/v1/jobs", params={"limit": 50}).raise_for_status().json()
        live = {"validating", "queued", "running", "finalizing"}
        return [job["id"] for job in answer["data"] if job["state"] in live and job["id"] in self.jobs]

    def _submit(self, chance: random.Random) -> None:
        number = chance.randrange(10**6)
        if chance.random() < 0.3:
            texts = [f"text {place} of {number}" for place in range(12)]
            inputs = [{"custom_id": text, "body": {"input": text}} for text in texts]
            request = {"endpoint": "/v1/embeddings", "model": EMBEDDING_MODEL, "inputs": inputs}
            with self.rig.stack.client() as client:
                self.jobs[str(client.post("/v1/jobs", json=request).raise_for_status().json()["id"])] = None
            return
        items = mixed(chance.randint(10, 60), seed=number, delay_s=chance.choice([0.0, 0.02, 0.1]))
        self.jobs[self.rig.submit(items, chunks=chance.choice(["one", "many"]))] = _expected(items)

    def _cancel(self, job_id: str) -> None:
        # Said before it is known whether the request arrives.
        expected = self.jobs[job_id]
        if expected is not None:
            self.jobs[job_id] = {name: replace(one, may_be_stopped=True) for name, one in expected.items()}
        with self.rig.stack.client() as client:
            client.post(f"/v1/jobs/{job_id}/cancel")

    def _kill(self, chance: random.Random) -> None:
        queues = self.rig.settings.queues
        own = [*queues, *(f"child of {queue}" for queue in queues), "control", "dispatcher", "api", "beat"]
        name = chance.choice([*own, *(SERVERS if self.kills_servers else ())])
        try:
            queue = name.removeprefix("child of ")
            pid = self.rig.child_of(queue) if queue != name else self.rig.stack.pid(name)
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, psutil.NoSuchProcess, ValueError):
            return  # it is still down from the last time
        self.killed[name] += 1

    def _drain_and_check(self) -> None:
        self.rig.stack.wait_until_ready()
        checker = Checker(self.rig.wiring.database, self.rig.wiring.storage)
        self.rig.stack.wait_until(
            lambda: all(self.rig.has_ended(job_id) for job_id in self.jobs),
            timeout_s=DRAINED_WITHIN_S,
            what=f"the end of {len(self.jobs)} jobs",
        )
        for job_id, expected in self.jobs.items():
            checker.check_job(job_id)
            self._check_outcomes(checker, job_id, expected)
        checker.check_all()

    def _check_outcomes(self, checker: Checker, job_id: str, expected: Mapping[str, Expected] | None) -> None:
        """Each item as seeded; one whose worker was killed again and again may stand convicted."""
        chunks = self.rig.sql("SELECT max(worker_deaths) AS n FROM chunks WHERE job_id = :id", id=job_id)
        may_be_convicted = (chunks[0]["n"] or 0) >= self.rig.settings.max_worker_deaths
        for custom_id, line in checker.results(job_id).items():
            got = Expected(line.status, line.code, line.body if line.status == "succeeded" else None)
            right = line.code is None if expected is None else expected[custom_id].allows(got)
            stopped = expected is None and line.status == "cancelled"
            assert right or stopped or (may_be_convicted and line.code == "worker_crash"), (job_id, custom_id, got)


def _expected(items: Sequence[SeededItem]) -> dict[str, Expected]:
    return {item.custom_id: item.expected for item in items}
