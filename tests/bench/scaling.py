"""What a second worker of the pool brings: on items that only wait, and on the model with a core for each worker."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from tests.bench.bed import Bed
from tests.bench.embeddings import MODEL, run_texts, write_input
from tests.bench.plan import Plan
from tests.bench.rows import Row, at_least
from tests.bench.samples import Sample

POLL_S = 0.02
DELAY_S = 0.05
READY_WITHIN_S = 90


def measure_scaling(bed: Bed, plan: Plan, texts: Sequence[str]) -> list[Row]:
    """All workers of the pool, then one of them alone; nothing where there is only one."""
    first, *others = bed.cpu_queues
    if not others:
        return []
    source, delayed = bed.folder / "scaling.jsonl", bed.folder / "delayed.jsonl"
    write_input(source, texts)
    _write_delayed(bed, plan.n_delayed_items)
    texts_id, delayed_id = bed.api.upload(source), bed.api.upload(delayed)
    together = [_both(bed, texts_id, delayed_id) for _ in range(plan.n_rounds)]
    with bed.without(others):
        _wait_for_workers(bed, 1)
        alone = [_both(bed, texts_id, delayed_id) for _ in range(plan.n_rounds)]
    _wait_for_workers(bed, len(bed.cpu_queues))
    bed.say(f"{len(bed.cpu_queues)} workers {together[-1]} s, {first} alone {alone[-1]} s")
    n_workers = len(bed.cpu_queues)
    delayed_ratio, model_ratio = (
        Sample([one[kind] for one in alone]).over(Sample([all_[kind] for all_ in together])) for kind in (0, 1)
    )
    return [
        Row(
            key="scaling.delay",
            what=f"{n_workers} workers over one, `echo` that waits",
            unit="x",
            sample=delayed_ratio,
            target=at_least(0.9 * n_workers),
        ),
        Row(
            key="scaling.model",
            what=f"{n_workers} workers over one, embeddings, a core for each",
            unit="x",
            sample=model_ratio,
        ),
    ]


def _both(bed: Bed, texts_id: str, delayed_id: str) -> tuple[float, float]:
    """Seconds of the items that wait, and of the model."""
    started_s = time.perf_counter()
    bed.api.wait(bed.api.submit(endpoint="/v1/echo", model="echo", input_file_id=delayed_id), every_s=POLL_S)
    waited_s = time.perf_counter()
    run_texts(bed.api, texts_id)
    return waited_s - started_s, time.perf_counter() - waited_s


def _write_delayed(bed: Bed, n_items: int) -> None:
    with (bed.folder / "delayed.jsonl").open("w", encoding="utf-8") as out:
        for number in range(n_items):
            body = {"model": "echo", "input": "wait", "echo": {"delay_s": DELAY_S}}
            out.write(json.dumps({"custom_id": str(number), "body": body}) + "\n")


def _wait_for_workers(bed: Bed, n_workers: int) -> None:
    """Wait until so many workers have their models loaded."""
    give_up_at = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up_at:
        if bed.n_warm_workers(MODEL, "echo") == n_workers:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{n_workers} workers were not ready within {READY_WITHIN_S} s")
