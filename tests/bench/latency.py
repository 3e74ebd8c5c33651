"""How long one answer takes: submitting, a whole job of one item, and a synchronous request."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.bench.clients import Api
from tests.bench.embeddings import MODEL
from tests.bench.plan import Plan
from tests.bench.samples import Sample

POLL_S = 0.01
TEXT = "How do I read a file that is inside a zip archive?"
N_THREADS = 32
N_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """What was measured.

    Attributes:
        submit: POST of a one-item job, sent at a fixed rate, counted from the moment it was due.
        single_job: POST of a one-item echo job to its terminal state, one after another.
        sync: POST /v1/embeddings of one short text while nothing else runs.
    """

    submits_per_s: float
    submit: Sample
    single_job: Sample
    sync: Sample


def measure_latency(api: Api, plan: Plan, *, say: Callable[[str], None]) -> LatencyFigures:
    """Measure on a stack that is warm and has nothing else to do."""
    for _ in range(N_WARM_UP):
        api.embed(TEXT, model=MODEL)
        _run_single_job(api)
    sync = Sample([_timed(lambda: api.embed(TEXT, model=MODEL)) for _ in range(plan.n_sync_requests)])
    say(f"{plan.n_sync_requests} synchronous requests: {sync.p50 * 1000:.0f} ms")
    single_job = Sample([_timed(lambda: _run_single_job(api)) for _ in range(plan.n_single_jobs)])
    say(f"{plan.n_single_jobs} jobs of one item: {single_job.p50 * 1000:.0f} ms")
    submit = _submit_at_rate(api, plan)
    say(f"{plan.n_submits} submits at {plan.submits_per_s:g} per second: {submit.p50 * 1000:.0f} ms")
    return LatencyFigures(plan.submits_per_s, submit, single_job, sync)


def _submit_at_rate(api: Api, plan: Plan) -> Sample:
    """Send each request when it is due, however late the answers of others are."""
    begins_s = time.perf_counter()
    due = [begins_s + number / plan.submits_per_s for number in range(plan.n_submits)]
    with ThreadPoolExecutor(N_THREADS) as pool:
        answered = []
        for moment in due:
            time.sleep(max(0.0, moment - time.perf_counter()))
            answered.append(pool.submit(_submit_since, api, moment))
        took = [future.result() for future in answered]
    for _, job_id in took:
        api.wait(job_id, every_s=POLL_S)
    return Sample([seconds for seconds, _ in took])


def _submit_since(api: Api, due_s: float) -> tuple[float, str]:
    job_id = _submit_one(api)
    return time.perf_counter() - due_s, job_id


def _submit_one(api: Api) -> str:
    return api.submit(endpoint="/v1/echo", model="echo", input="one item")


def _run_single_job(api: Api) -> None:
    api.wait(_submit_one(api), every_s=POLL_S)


def _timed(action: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s
