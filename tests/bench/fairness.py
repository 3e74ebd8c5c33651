"""Whether the small one waits for the large one, what classes really get, and what deciding costs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import text

from app.db.session import Database
from app.domain.fairness import CLASS_WEIGHTS
from app.domain.jobs import Priority
from app.domain.tenant_places import QueuedJob
from app.domain.tenants import TenantQuotas
from app.domain.work_queue import WorkQueue
from app.services.tenant_quotas import default_quota
from tests.bench.backlog import standing_backlog
from tests.bench.bed import Bed
from tests.bench.clients import Api
from tests.bench.latency import submit_at_rate
from tests.bench.plan import Plan
from tests.bench.rows import Row, at_most
from tests.bench.samples import Sample

POLL_S = 0.02
N_SMALL_ITEMS = 100
CLASSES_TENANT = "bench-classes"
HOLDS_THE_PLACE_S = 250.0
CLASS_ITEMS = 10
CLASS_DELAY_S = 0.02
N_DECISIONS = 2_000
IDLE_LOOK_S = 5.0


def measure_fairness(bed: Bed, plan: Plan) -> list[Row]:
    """Everything about who runs next."""
    return [
        *_small_behind_large(bed, plan),
        *_shares_of_classes(bed, plan),
        *_beside_a_backlog(bed, plan),
        _decisions(bed, plan),
    ]


# -- B's small job behind A's large one


def _small_behind_large(bed: Bed, plan: Plan) -> list[Row]:
    large, small = bed.folder / "large.jsonl", bed.folder / "small.jsonl"
    _write_echo(large, plan.n_echo_items)
    _write_echo(small, N_SMALL_ITEMS)
    alone, behind, chunk_s = [], [], []
    with bed.tenant("bench-large") as theirs, bed.tenant("bench-small") as ours:
        large_id, small_id = theirs.upload(large), ours.upload(small)
        for number in range(1, plan.n_rounds + 1):
            alone.append(_run(ours, small_id))
            job_id = theirs.submit(endpoint="/v1/echo", model="echo", input_file_id=large_id)
            while theirs.job(job_id)["state"] in {"validating", "queued"}:
                time.sleep(POLL_S)
            behind.append(_run(ours, small_id))
            theirs.wait(job_id, every_s=POLL_S)
            chunk_s.append(_mean_chunk_s(bed, job_id))
            bed.say(f"{N_SMALL_ITEMS} items, turn {number}: {alone[-1]:.2f} s alone, {behind[-1]:.2f} s behind")
    without_chunk = Sample([with_ - one for with_, one in zip(behind, chunk_s, strict=True)])
    what = f"{N_SMALL_ITEMS} items behind another tenant's {plan.n_echo_items:,}"
    return [
        Row(key="fair.alone", what=f"{N_SMALL_ITEMS} items alone", unit="s", sample=Sample(alone)),
        Row(key="fair.behind", what=what, unit="s", sample=Sample(behind)),
        Row(key="fair.chunk", what="one chunk of the other, mean", unit="s", sample=Sample(chunk_s)),
        Row(
            key="fair.over_alone",
            what=f"{what}, less one chunk, over alone",
            unit="x",
            sample=without_chunk.over(Sample(alone)),
            target=at_most(2),
        ),
    ]


def _run(api: Api, file_id: str) -> float:
    started_s = time.perf_counter()
    api.wait(api.submit(endpoint="/v1/echo", model="echo", input_file_id=file_id), every_s=POLL_S)
    return time.perf_counter() - started_s


def _mean_chunk_s(bed: Bed, job_id: str) -> float:
    mean = "SELECT extract(epoch FROM avg(finished_at - claimed_at)) FROM chunks WHERE job_id = :id AND state = 'done'"
    return float(_rows(bed, mean, id=job_id)[0][0])


def _write_echo(path: Path, n_items: int) -> None:
    with path.open("w", encoding="utf-8") as out:
        for number in range(n_items):
            body = {"model": "echo", "input": f"item {number}"}
            out.write(json.dumps({"custom_id": str(number), "body": body}) + "\n")


# -- three classes with work


def _shares_of_classes(bed: Bed, plan: Plan) -> list[Row]:
    """Jobs of one chunk each, let go when all of them wait; only the time counts in which every class has one left."""
    with bed.tenant(CLASSES_TENANT) as api:
        with bed.tenant(CLASSES_TENANT, max_running_jobs=1):
            holder = _submit_waiting_job(api, Priority.URGENT, n_items=1, delay_s=HOLDS_THE_PLACE_S)
            _wait_for_state(api, holder, "running")
            job_ids = [
                _submit_waiting_job(api, priority)
                for priority, n_jobs in zip(Priority, plan.n_jobs_by_class, strict=True)
                for _ in range(n_jobs)
            ]
            for job_id in job_ids:
                _wait_for_state(api, job_id, "queued")
        api.cancel(holder)
        for job_id in job_ids:
            api.wait(job_id, every_s=POLL_S)
    used = _used_while_all_waited(bed, job_ids)
    total = sum(used.values())
    shares = {priority: used.get(priority, 0.0) / total if total else 0.0 for priority in Priority}
    bed.say(f"classes got {', '.join(f'{name} {share:.1%}' for name, share in shares.items())} of {total:.0f} s")
    wanted = {priority: weight / sum(CLASS_WEIGHTS.values()) for priority, weight in CLASS_WEIGHTS.items()}
    off = max(abs(shares[priority] - wanted[priority]) for priority in Priority)
    return [
        *(
            Row(
                key=f"fair.{priority}",
                what=f"share of `{priority}` while all have work; {wanted[priority]:.1%} is meant",
                unit="%",
                sample=Sample([shares[priority]]),
            )
            for priority in Priority
        ),
        Row(
            key="fair.off",
            what="largest difference of a class from its share, of the whole",
            unit="%",
            sample=Sample([off]),
            target=at_most(0.05),
        ),
    ]


def _submit_waiting_job(
    api: Api, priority: Priority, *, n_items: int = CLASS_ITEMS, delay_s: float = CLASS_DELAY_S
) -> str:
    body = {"model": "echo", "input": "wait", "echo": {"delay_s": delay_s}}
    inputs = [{"custom_id": str(number), "body": body} for number in range(n_items)]
    return api.submit(endpoint="/v1/echo", model="echo", inputs=inputs, priority=priority)


def _wait_for_state(api: Api, job_id: str, state: str) -> None:
    while api.job(job_id)["state"] != state:
        time.sleep(POLL_S)


def _used_while_all_waited(bed: Bed, job_ids: Sequence[str]) -> dict[str, float]:
    """Device seconds by class of the chunks granted until the first class had none left."""
    return dict(
        _rows(
            bed,
            """WITH mine AS (SELECT j.priority, c.granted_at, c.device_s
                   FROM jobs j JOIN chunks c ON c.job_id = j.id WHERE j.id = ANY(:ids)),
               ends AS (SELECT min(last_at) AS ends_at
                   FROM (SELECT max(granted_at) AS last_at FROM mine GROUP BY priority) AS by_class)
               SELECT priority, sum(device_s) FROM mine, ends WHERE granted_at <= ends_at GROUP BY priority""",
            ids=list(job_ids),
        )
    )


# -- beside a backlog


def _beside_a_backlog(bed: Bed, plan: Plan) -> list[Row]:
    n_chunks = max(1, plan.n_waiting_chunks // plan.n_queued_jobs)
    idle_share = _dispatcher_share(bed)
    with standing_backlog(bed, n_jobs=plan.n_queued_jobs, n_chunks=n_chunks):
        time.sleep(IDLE_LOOK_S / 2)
        waiting_share = _dispatcher_share(bed)
        submit = submit_at_rate(bed.api, plan)
    behind = f"while {plan.n_queued_jobs:,} jobs are queued"
    bed.say(f"{behind}: submit {submit.p99 * 1000:.0f} ms p99, the dispatcher takes {waiting_share:.1%} of a core")
    milliseconds = Sample([seconds * 1000 for seconds in submit.values])
    return [
        Row(
            key="fair.submit_p99",
            what=f"submit a job, {plan.submits_per_s:g} each second, {behind}, p99",
            unit="ms",
            sample=milliseconds,
            target=at_most(50),
            statistic="p99",
        ),
        Row(
            key="fair.dispatcher_idle",
            what="share of a core that the dispatcher takes with nothing to do",
            unit="%",
            sample=Sample([idle_share]),
        ),
        Row(
            key="fair.dispatcher",
            what=f"the same {behind}, {plan.n_waiting_chunks:,} chunks",
            unit="%",
            sample=Sample([waiting_share]),
            target=at_most(0.1),
        ),
    ]


def _dispatcher_share(bed: Bed) -> float:
    (process,) = [psutil.Process(each.pid) for each in bed.processes("dispatcher")]
    before, started_s = process.cpu_times(), time.perf_counter()
    time.sleep(IDLE_LOOK_S)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.perf_counter() - started_s)


# -- deciding


@dataclass(frozen=True, slots=True)
class _Simulated:
    """So many tenants with one job each, whose chunks never end."""

    queue: WorkQueue

    @classmethod
    def of(cls, bed: Bed, n_tenants: int) -> _Simulated:
        queue = WorkQueue(TenantQuotas(default_quota(bed.settings), {}))
        now = datetime.now(UTC)
        for number in range(n_tenants):
            queue.put(
                QueuedJob(
                    id=f"job-{number}",
                    tenant_id=f"tenant-{number}",
                    pools=("gpu",),
                    model="m",
                    model_version="v1",
                    priority=list(Priority)[number % 3],
                    deadline_at=now,
                    created_at=now,
                    is_admitted=False,
                    remaining_tokens=10**6,
                )
            )
        return cls(queue)

    def decide(self) -> float:
        """Choose the next and book it; seconds."""
        started_s = time.perf_counter()
        job = self.queue.next("gpu")
        if job is None:
            raise RuntimeError("nobody is next though everybody has work")
        self.queue.started(job.id, pool="gpu", cost_s=1.0)
        return time.perf_counter() - started_s


def _decisions(bed: Bed, plan: Plan) -> Row:
    simulated = _Simulated.of(bed, plan.n_queued_jobs)
    simulated.decide()  # which puts everybody into their lanes, as reading all rows does
    took = Sample([simulated.decide() * 1000 for _ in range(N_DECISIONS)])
    bed.say(f"a decision among {plan.n_queued_jobs:,} tenants: {took.p50:.3f} ms")
    return Row(
        key="fair.decision",
        what=f"choose the next among {plan.n_queued_jobs:,} tenants, however many chunks wait, p99",
        unit="ms",
        sample=took,
        target=at_most(10),
        statistic="p99",
    )


def _rows(bed: Bed, query: str, **values: object) -> Sequence[tuple[object, ...]]:
    database = Database.connect(bed.settings.database_url)
    try:
        with database.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]
    finally:
        database.close()
