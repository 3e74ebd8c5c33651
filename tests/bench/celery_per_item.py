"""What most people would write: one Celery task for each item, its result in the result backend.

``python -m tests.bench.celery_per_item N_TASKS N_PROCESSES`` starts a worker, sends the tasks, waits for all results
and prints the seconds that one task took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from celery import Celery, group

STARTS_WITHIN_S = 60
QUEUE = "bench.items"

app = Celery("per_item", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_BACKEND"))
app.conf.update(
    task_acks_late=True,
    task_default_queue=QUEUE,
    task_default_queue_type="quorum" if str(app.conf.broker_url).startswith("amqp") else "classic",
    worker_prefetch_multiplier=4,
    broker_transport_options={"confirm_publish": True},
    worker_detect_quorum_queues=True,
)


@app.task(name="bench.echo")
def echo(body: dict[str, str]) -> dict[str, str]:
    """Run one item."""
    return {"echo": body["input"]}


def main() -> None:
    """Measure."""
    n_tasks, n_processes = map(int, sys.argv[1:])
    argv = ["-A", "tests.bench.celery_per_item", "worker", "-c", str(n_processes), "-Q", QUEUE, "-l", "error"]
    worker = subprocess.Popen([sys.executable, "-m", "celery", *argv], stdout=subprocess.DEVNULL)
    try:
        echo.delay({"input": "are you there?"}).get(timeout=STARTS_WITHIN_S)
        started_s = time.perf_counter()
        results = group(echo.s({"input": f"item {number}"}) for number in range(n_tasks)).apply_async()
        results.get(interval=0.05)
        print((time.perf_counter() - started_s) / n_tasks)
    finally:
        worker.terminate()
        worker.wait()
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(QUEUE)


if __name__ == "__main__":
    main()
