"""What the machinery costs without a model: jobs of echo items of every size, and one Celery task for each item."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from tests.bench.alone import ROOT
from tests.bench.bed import Bed
from tests.bench.plan import Plan
from tests.bench.rows import Row, at_least, at_most
from tests.bench.samples import Sample

POLL_S = 0.02


def measure_echo(bed: Bed, plan: Plan) -> list[Row]:
    """Jobs of the largest size in turns with Celery tasks, then jobs of every size."""
    job_s, task_s = [], []
    file_id = _upload(bed, plan.n_echo_items)
    for number in range(1, plan.n_rounds + 1):
        job_s.append(_run_jobs(bed, file_id, 1))
        task_s.append(_seconds_per_task(bed, plan) if bed.stack else 0.0)
        bed.say(f"{plan.n_echo_items:,} echo items, turn {number} of {plan.n_rounds}: {job_s[-1]:.2f} s")
    rows = [
        Row(
            key="echo.run",
            what=f"{plan.n_echo_items:,} `echo` items, POST to the end of the job",
            unit="s",
            sample=Sample(job_s),
            target=at_most(3),
        )
    ]
    if bed.stack:
        per_item = Sample([seconds / plan.n_echo_items for seconds in job_s])
        cheaper = Row(
            key="echo.cheaper",
            what="an item of it cheaper than one Celery task for each item",
            unit="x",
            sample=Sample(task_s).over(per_item),
            target=at_least(15),
        )
        rows.append(cheaper)
    return [*rows, *_sizes(bed, plan)]


def _sizes(bed: Bed, plan: Plan) -> list[Row]:
    """Cost of an item by the size of the work; above one job's limit it is several jobs at once."""
    rows, cost_s = [], {}
    for n_items in plan.job_sizes:
        n_jobs = max(1, n_items // plan.n_echo_items)
        file_id = _upload(bed, n_items // n_jobs)
        n_times = plan.n_rounds if n_jobs == 1 else 1
        took = [_run_jobs(bed, file_id, n_jobs) for _ in range(n_times)]
        cost_s[n_items] = min(took) / n_items
        bed.say(f"{n_items:,} echo items in {n_jobs} jobs: {took[-1]:.2f} s")
        rate = Sample([n_items / seconds for seconds in took])
        rows.append(Row(key=f"size.{n_items}", what=f"{n_items:,} `echo` items", unit="items/s", sample=rate))
    reference, largest = plan.n_echo_items, plan.job_sizes[-1]
    flat = Row(
        key="echo.flat",
        what=f"an item of {largest:,} over one of {reference:,}",
        unit="x",
        sample=Sample([cost_s[largest] / cost_s[reference]]),
        target=at_most(1.25),
    )
    return [*rows, flat]


def _upload(bed: Bed, n_items: int) -> str:
    source = bed.folder / "echo.jsonl"
    with source.open("w", encoding="utf-8") as out:
        for number in range(n_items):
            body = {"model": "echo", "input": f"item {number}"}
            out.write(json.dumps({"custom_id": str(number), "body": body}) + "\n")
    return bed.api.upload(source)


def _run_jobs(bed: Bed, file_id: str, n_jobs: int) -> float:
    """Seconds from the first POST to the end of the last of ``n_jobs`` equal jobs."""
    started_s = time.perf_counter()
    job_ids = [bed.api.submit(endpoint="/v1/echo", model="echo", input_file_id=file_id) for _ in range(n_jobs)]
    for job_id in job_ids:
        bed.api.wait(job_id, every_s=POLL_S)
    return time.perf_counter() - started_s


def _seconds_per_task(bed: Bed, plan: Plan) -> float:
    """What one Celery task for each item costs, on as many processes as there are CPU workers."""
    settings = bed.settings
    environment = {**os.environ, "BENCH_BROKER": settings.broker_url, "BENCH_BACKEND": settings.redis_url}
    argv = [sys.executable, "-m", "tests.bench.celery_per_item", str(plan.n_celery_tasks), str(len(bed.cpu_queues))]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
