"""A large file up and its results down: how fast beside the bare S3 client, and what memory the processes take."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil

from app.storage.s3 import S3Store
from tests.bench.bed import Bed
from tests.bench.plan import Plan
from tests.bench.rows import Row, at_most
from tests.bench.samples import Sample

N_ITEMS = 20_000
LOOK_EVERY_S = 0.02
POLL_S = 0.05
API_LIMIT_MB = 300.0


class Peak:
    """The most memory that any one of some processes held, in MB of its own and shared pages."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self._processes = processes
        self.before_mb = self.peak_mb = self._largest()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(LOOK_EVERY_S):
            self.peak_mb = max(self.peak_mb, self._largest())

    def _largest(self) -> float:
        sizes = [0.0]
        for process in self._processes:
            try:
                sizes.append(process.memory_info().rss / 2**20)
            except psutil.NoSuchProcess:
                continue
        return max(sizes)


def measure_transfers(bed: Bed, plan: Plan) -> list[Row]:
    """Turns of: S3 client up, API up, run, API down, S3 client down."""
    source, target = bed.folder / "large.jsonl", bed.folder / "large-results.jsonl"
    _write_large(source, plan.transfer_bytes)
    store = S3Store.from_settings(bed.settings)
    peaks = {name: Peak(bed.processes(name)) for name in ("api", "control", *bed.cpu_queues)}
    took: dict[str, list[float]] = {name: [] for name in ("s3_up", "api_up", "s3_down", "api_down")}
    with peaks["api"].watched(), peaks["control"].watched(), peaks[bed.cpu_queues[0]].watched():
        for number in range(1, plan.n_rounds + 1):
            _take_turn(bed, store, source, target, took)
            bed.say(f"large file, turn {number} of {plan.n_rounds}: up {took['api_up'][-1]:.2f} s")
    return [*_speed_rows(took, plan), *_memory_rows(peaks, bed.cpu_queues[0])]


def _take_turn(bed: Bed, store: S3Store, source: Path, target: Path, took: dict[str, list[float]]) -> None:
    key = f"files/bench/{uuid4().hex}"
    took["s3_up"].append(_timed(lambda: _put(store, key, source)))
    started_s = time.perf_counter()
    file_id = bed.api.upload(source)
    took["api_up"].append(time.perf_counter() - started_s)
    job = bed.api.wait(bed.api.submit(endpoint="/v1/echo", model="echo", input_file_id=file_id), every_s=POLL_S)
    started_s = time.perf_counter()
    size_bytes = bed.api.download(job["id"], target)
    took["api_down"].append(time.perf_counter() - started_s)
    store.put(key, io.BytesIO(target.read_bytes()), size_bytes=size_bytes)
    took["s3_down"].append(_timed(lambda: _get(store, key, target)))
    store.delete([key])


def _speed_rows(took: dict[str, list[float]], plan: Plan) -> list[Row]:
    samples = {name: Sample(seconds) for name, seconds in took.items()}
    megabytes = plan.transfer_bytes / 2**20
    rows = []
    for way, what in (("up", f"{megabytes:.0f} MB up"), ("down", f"{megabytes:.0f} MB of results down")):
        api, bare = samples[f"api_{way}"], samples[f"s3_{way}"]
        rate = Sample([megabytes / seconds for seconds in api.values])
        rows.append(Row(key=f"transfer.{way}_rate", what=what, unit="MB/s", sample=rate))
        over = Row(
            key=f"transfer.{way}_over_s3",
            what=f"{what}, time over that of the bare S3 client",
            unit="x",
            sample=api.over(bare),
            target=at_most(2),
        )
        rows.append(over)
    return rows


def _memory_rows(peaks: dict[str, Peak], worker: str) -> list[Row]:
    api = peaks["api"]
    return [
        Row(
            key="memory.api",
            what="largest API process meanwhile",
            unit="MB",
            sample=Sample([api.peak_mb]),
            target=at_most(API_LIMIT_MB),
        ),
        Row(
            key="memory.api_growth",
            what="of this, above before",
            unit="MB",
            sample=Sample([api.peak_mb - api.before_mb]),
        ),
        Row(key="memory.control", what="largest control process", unit="MB", sample=Sample([peaks["control"].peak_mb])),
        Row(
            key="memory.worker",
            what="largest process of a device worker, with its model",
            unit="MB",
            sample=Sample([peaks[worker].peak_mb]),
        ),
    ]


def _write_large(path: Path, size_bytes: int) -> None:
    n_items = max(1, min(N_ITEMS, size_bytes // 1024))
    filling = "night train " * (size_bytes // n_items // 12 - 6)
    with path.open("w", encoding="utf-8") as out:
        for number in range(n_items):
            out.write(json.dumps({"custom_id": str(number), "body": {"model": "echo", "input": filling}}) + "\n")


def _put(store: S3Store, key: str, source: Path) -> None:
    with source.open("rb") as content:
        store.put(key, content, size_bytes=source.stat().st_size)


def _get(store: S3Store, key: str, target: Path) -> None:
    with store.open(key) as reader, target.open("wb") as out:
        while block := reader.read(1 << 20):
            out.write(block)


def _timed(action: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s
