"""One fault after another on a running stack: each under load, each timed, each followed by the checker."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from chaos_rig import ENDS_WITHIN_S, ChaosRig
from proxied_stack import ProxiedStack
from seeded_work import SeededItem, good, mixed

from app.errors import DatabaseUnavailable

PROBE_WITHIN_S = 90
COMMAND_WITHIN_S = 60
KILL_WITHIN_S = 10.0
OUTAGE_S = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the table in ``docs/reliability.md``.

    Attributes:
        row: the row of the fault matrix.
        again_s: from the end of the fault, for a killed process from the kill, to the end of the first chunk that was
            claimed afterwards: by the killed worker's successor, else of an urgent job submitted at that moment.
    """

    row: int
    fault: str
    injected: str
    happens: str
    again_s: float


@dataclass(slots=True)
class Fault:
    """A fault that is being injected."""

    jobs: dict[str, Sequence[SeededItem]] = field(default_factory=dict)
    over_at_s: float = 0.0
    queue: str | None = None

    def is_over(self, *, queue: str | None = None) -> None:
        """Note the moment from which work should go on; on ``queue`` where one worker was hit."""
        self.over_at_s = time.time()
        self.queue = queue


@dataclass(slots=True)
class FaultLab:
    """The rig of one stack behind proxies, and what was measured on it."""

    rig: ChaosRig
    stack: ProxiedStack
    measured: list[Measured] = field(default_factory=list)

    @contextmanager
    def fault(
        self,
        row: int,
        name: str,
        *,
        injected: str,
        happens: str,
        within_s: float,
        ends_within_s: float = ENDS_WITHIN_S,
    ) -> Iterator[Fault]:
        """Run a fault: the body injects it and says when it is over; then work must go on and every promise hold.

        Args:
            within_s: when work must go on, from the end of the fault.
            ends_within_s: when what ran under the fault must have ended.
        """
        self.stack.wait_until_ready()
        fault = Fault()
        yield fault
        again_s = self._seconds_until_probe(fault) if fault.queue is None else 0.0
        for job_id, items in fault.jobs.items():
            self.rig.check(job_id, items, within_s=ends_within_s)
        if fault.queue is not None:
            again_s = self._seconds_until_claimed(fault)
        self.measured.append(Measured(row, name, injected, happens, round(again_s, 1)))
        assert again_s < within_s, f"work went on after {again_s:.1f} s only"

    def load(self, fault: Fault, *, n_items: int = 60, delay_s: float = 0.1, seed: int = 1) -> dict[str, Any]:
        """Submit a job of many chunks and wait until it runs; gives the first running chunk."""
        items = [*(good(f"slow-{number}", delay_s=delay_s) for number in range(n_items)), *mixed(20, seed=seed)]
        job_id = self.rig.submit(items, chunks="many")
        fault.jobs[job_id] = items
        return self.rig.wait_until_running(job_id)

    def broker(self, *command: str) -> str:
        """Run one ``rabbitmqctl`` command."""
        argv, env = self.stack.rabbitmqctl()
        done = subprocess.run(
            [*argv, *command], env=env, check=True, capture_output=True, text=True, timeout=COMMAND_WITHIN_S
        )
        return done.stdout

    def set_consumer_timeout(self, *, timeout_s: int, looks_every_s: int) -> None:
        """Set what RabbitMQ gives a consumer to acknowledge, for channels that are opened from now on."""
        values = {"consumer_timeout": timeout_s * 1000, "channel_tick_interval": looks_every_s * 1000}
        commands = [f"application:set_env(rabbit, {name}, {value})" for name, value in values.items()]
        self.broker("eval", ", ".join(commands) + ".")

    def wait_for_workers(self) -> None:
        """Wait until every device worker was heard of lately."""
        n_workers = len(self.rig.settings.queues)
        alive = "SELECT count(*) AS n FROM workers WHERE seen_at > now() - interval '6 seconds'"
        self.stack.wait_until(lambda: self.rig.sql(alive)[0]["n"] == n_workers, timeout_s=60, what="workers")

    def stop_programs(self, names: Sequence[str]) -> None:
        """Stop processes cleanly and leave them stopped."""
        self.stack.stack._supervisor().stop_programs(names, timeout_s=40)

    def start_programs(self, names: Sequence[str]) -> None:
        for name in names:
            self.stack.stack._supervisor().start_program(name)

    def signal_worker(self, queue: str, number: int) -> None:
        """Send a signal to a device worker and to its child."""
        for pid in (self.rig.child_of(queue), self.stack.pid(queue)):
            os.kill(pid, number)

    def _seconds_until_probe(self, fault: Fault) -> float:
        """Submit a job as a client would, trying again when told to, and see when its chunk is done."""
        deadline_s = time.monotonic() + PROBE_WITHIN_S
        while True:
            try:
                probe = [good("probe")]
                job_id = self.rig.submit(probe, priority="urgent")
                break
            except (httpx.HTTPError, DatabaseUnavailable):
                assert time.monotonic() < deadline_s, "no job is accepted"
                time.sleep(0.1)
        fault.jobs[job_id] = probe
        self.stack.wait_until(lambda: self.rig.has_ended(job_id), timeout_s=PROBE_WITHIN_S, what="the probe's end")
        query = "SELECT extract(epoch FROM min(finished_at)) AS at FROM chunks WHERE job_id = :id"
        return float(self.rig.sql(query, id=job_id)[0]["at"]) - fault.over_at_s

    def _seconds_until_claimed(self, fault: Fault) -> float:
        query = (
            "SELECT extract(epoch FROM min(finished_at)) AS at FROM chunks"
            " WHERE job_id = ANY(:ids) AND queue = :queue AND state = 'done' AND claimed_at > to_timestamp(:over_at)"
        )
        row = self.rig.sql(query, ids=list(fault.jobs), queue=fault.queue, over_at=fault.over_at_s)[0]
        assert row["at"] is not None, f"the successor on {fault.queue} never finished a chunk"
        return float(row["at"]) - fault.over_at_s


def write_table(measured: Sequence[Measured], folder: Path) -> None:
    """Write ``chaos.json`` and ``chaos.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted(measured, key=lambda one: one.row)
    (folder / "chaos.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    lines = ["| row | fault | how injected | what happens | going again after |", "|---|---|---|---|---|"]
    lines += [f"| {one.row} | {one.fault} | {one.injected} | {one.happens} | {one.again_s:.1f} s |" for one in rows]
    (folder / "chaos.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
