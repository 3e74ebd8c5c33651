"""How long one answer takes: submitting, a whole job of one item, a synchronous request, idle and beside a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.bench.bed import Bed
from tests.bench.clients import Api
from tests.bench.embeddings import MODEL, run_texts, write_input
from tests.bench.plan import Plan
from tests.bench.rows import Row, Statistic, Target, at_most
from tests.bench.samples import Sample

POLL_S = 0.01
TEXT = "How do I read a file that is inside a zip archive?"
N_THREADS = 32
N_WARM_UP = 3
SYNC_PER_S = 5.0


def measure_latency(bed: Bed, plan: Plan, texts: Sequence[str]) -> list[Row]:
    """Measure on a stack that is warm and has nothing else to do."""
    api = bed.api
    for _ in range(N_WARM_UP):
        api.embed(TEXT, model=MODEL)
        _run_single_job(api)
    single_job = Sample([_timed(lambda: _run_single_job(api)) for _ in range(plan.n_single_jobs)])
    bed.say(f"{plan.n_single_jobs} jobs of one item: {single_job.p50 * 1000:.0f} ms")
    submit = submit_at_rate(api, plan)
    bed.say(f"{plan.n_submits} submits at {plan.submits_per_s:g} per second: {submit.p50 * 1000:.0f} ms")
    what = f"submit a job, {plan.submits_per_s:g} each second"
    return [
        _row("submit.p50", f"{what}, median", submit),
        _row("submit.p99", f"{what}, p99", submit, at_most(50), "p99"),
        _row("single_job.p50", "a job of one item, POST to its end, median", single_job, at_most(200)),
        _row("single_job.p99", "a job of one item, POST to its end, p99", single_job, None, "p99"),
        *_beside_a_batch(bed, plan, texts),
    ]


def _beside_a_batch(bed: Bed, plan: Plan, texts: Sequence[str]) -> list[Row]:
    """Turns of: requests alone, the batch alone, both together."""
    source = bed.folder / "background.jsonl"
    many = (list(texts) * (1 + plan.n_background_texts // len(texts)))[: plan.n_background_texts]
    write_input(source, many)
    file_id = bed.api.upload(source)
    idle: list[float] = []
    busy: list[float] = []
    batch_s, both_s = [], []
    for number in range(1, plan.n_rounds + 1):
        idle += _at_rate(bed.api, plan.n_sync_requests, lambda: False)
        batch_s.append(_timed(lambda: run_texts(bed.api, file_id)))
        both_s.append(_timed(lambda: busy.extend(_requests_during(bed.api, lambda: run_texts(bed.api, file_id)))))
        bed.say(
            f"synchronous requests, turn {number} of {plan.n_rounds}: {Sample(busy).p50 * 1000:.0f} ms beside a batch"
        )
    ratio = Sample([Sample(busy).p50 / Sample(idle).p50])
    loss = Sample([1 - alone / both for alone, both in zip(batch_s, both_s, strict=True)])
    return [
        _row("sync.idle", "one embedding, synchronous, nothing else running, median", Sample(idle)),
        _row("sync.busy", "the same while a batch runs, median", Sample(busy)),
        _row("sync.busy_p99", "the same while a batch runs, p99", Sample(busy), None, "p99"),
        Row(key="sync.over_idle", what="median beside a batch over idle", unit="x", sample=ratio, target=at_most(2)),
        Row(
            key="sync.batch_loss",
            what=f"what the batch loses to {SYNC_PER_S:g} synchronous requests a second",
            unit="%",
            sample=loss,
            target=at_most(0.2),
        ),
    ]


def _requests_during(api: Api, work: Callable[[], object]) -> list[float]:
    """Seconds of each request that was sent while ``work`` ran."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_at_rate, api, 10**6, over.is_set)
        try:
            work()
        finally:
            over.set()
        return asked.result()


def _at_rate(api: Api, n_at_most: int, is_over: Callable[[], bool]) -> list[float]:
    took: list[float] = []
    begins_s = time.perf_counter()
    while len(took) < n_at_most and not is_over():
        time.sleep(max(0.0, begins_s + len(took) / SYNC_PER_S - time.perf_counter()))
        took.append(_timed(lambda: api.embed(TEXT, model=MODEL)))
    return took


def submit_at_rate(api: Api, plan: Plan) -> Sample:
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


def _row(key: str, what: str, sample: Sample, target: Target | None = None, statistic: Statistic = "median") -> Row:
    milliseconds = Sample([seconds * 1000 for seconds in sample.values])
    return Row(key=key, what=what, unit="ms", sample=milliseconds, target=target, statistic=statistic)
