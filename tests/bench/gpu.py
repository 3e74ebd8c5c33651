"""``make gpu-bench``: the engine through its pipeline against bare ``encode`` at its best settings, on one device.

No server takes part. The encoders have the shapes of real ones and random weights. MFU is what the device computed of
what its maker says it can, counted without padding.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import click
import numpy as np
import orjson
import torch
from random_encoder import ALIAS, BASE, SMALL, TINY, Shape, write_random_encoder
from rich.console import Console
from sentence_transformers import SentenceTransformer

from app.domain.items import InputItem, ItemSucceeded
from app.ports import RunRequest, RunStats
from config.models import ModelSpec
from tests.bench.embeddings import model_folder
from tests.bench.history import load_history
from tests.bench.report import print_rows
from tests.bench.rows import Row, at_least
from tests.bench.samples import Sample
from tests.bench.texts import mixed_texts, short_texts
from workers.device_lock import DeviceLock
from workers.engines.registry import EngineRegistry
from workers.engines.tuning import PassSizes
from workers.pipeline import PipelineRunner

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / ".nightshift" / "bench" / "gpu.json"
SHAPES = {shape.name: shape for shape in (TINY, SMALL, BASE)}
BATCH_SIZES = (32, 128, 512, 2048)
N_ROUNDS = 3
# Dense half-precision operations a second, from the makers' data sheets.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}


@click.command()
@click.option("--device", default="cuda:0", show_default=True)
@click.option("--shape", "names", multiple=True, type=click.Choice(list(SHAPES)), default=("22M", "110M"))
@click.option("--texts", "n_texts", default=50_000, show_default=True, help="Of the short ones; a tenth as many mixed.")
@click.option("--figures", type=click.Path(path_type=Path), default=FIGURES, help="Where figures are kept.")
def main(*, device: str, names: tuple[str, ...], n_texts: int, figures: Path) -> None:
    """Measure the engine on a device."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("There is no CUDA device here; --device cpu shows that everything runs.")
    console = Console(width=140)
    what = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    before = after = load_history(figures, machine=f"{what}, torch {torch.__version__}")
    texts = {"short": short_texts(n_texts)[0], "mixed": mixed_texts(max(1, n_texts // 10))}
    for name in names:
        for kind, some in texts.items():
            rows = measure(SHAPES[name], some, kind=kind, device=device, peak_flops=peak_flops(what))
            print_rows(rows, before, console)
            taken_at = datetime.now(UTC).isoformat(timespec="seconds")
            after = after.updated(rows, taken_at=taken_at, load=os.getloadavg()[0])
            after.save(figures)


def peak_flops(device_name: str) -> float | None:
    """What the device can do a second; None where it is not known."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)


def measure(shape: Shape, texts: Sequence[str], *, kind: str, device: str, peak_flops: float | None) -> list[Row]:
    """Turns of the pipeline and of bare ``encode``."""
    with tempfile.TemporaryDirectory(prefix="nightshift-gpu-") as folder:
        spec = write_random_encoder(shape, Path(folder), tokenizer=model_folder())
        runner = _Runner(spec, texts, device=device, cache=Path(folder) / "cache")
        bare = _Bare(Path(folder) / "model", texts, device=device)
        runner.seconds()
        ours, theirs = [], []
        for _ in range(N_ROUNDS):
            ours.append(runner.seconds())
            theirs.append(bare.seconds())
        cosine = float((runner.vectors * bare.vectors).sum(axis=1).min())
    sample, key, what = Sample(ours), f"gpu.{shape.name}.{kind}", f"{shape.name} encoder, {len(texts):,} {kind} texts"
    rows = [
        Row(
            key=f"{key}.over_bare",
            what=f"{what}, pipeline over bare `encode` (batches of {bare.batch_size})",
            unit="x",
            sample=Sample(theirs).over(sample),
            target=at_least(0.9),
        ),
        Row(key=f"{key}.rate", what=what, unit="texts/s", sample=Sample([len(texts) / seconds for seconds in ours])),
        Row(
            key=f"{key}.cosine",
            what="smallest cosine to bare",
            unit="cosine",
            sample=Sample([cosine]),
            target=at_least(0.999),
        ),
    ]
    if peak_flops is not None:
        lengths = np.array([runner.lengths], dtype=np.int64)
        work = shape.flops(int(lengths.sum()), int((lengths**2).sum()))
        mfu = Sample([work / seconds / peak_flops for seconds in ours])
        rows.append(Row(key=f"{key}.mfu", what="of what the device can compute (MFU)", unit="%", sample=mfu))
    return rows


class _Runner:
    """The pipeline of a worker over texts in memory."""

    def __init__(self, spec: ModelSpec, texts: Sequence[str], *, device: str, cache: Path) -> None:
        registry = EngineRegistry(
            MappingProxyType({ALIAS: spec}), pool="gpu", device=device, pass_sizes=PassSizes(cache)
        )
        registry.warm()
        self._runner = PipelineRunner(registry, DeviceLock(shared=device == "cpu"))
        self._items = [
            InputItem(index, str(index), {"input": text, "encoding_format": "base64"}, attempt=1)
            for index, text in enumerate(texts)
        ]
        self._answers: list[ItemSucceeded] = []

    def seconds(self) -> float:
        """Run all texts once."""
        request = RunRequest(
            endpoint="/v1/embeddings",
            model=ALIAS,
            version="v1",
            items=self._items,
            should_stop=lambda: False,
            stats=RunStats(),
            on_oversize="truncate",
        )
        started_s = time.perf_counter()
        outcomes = list(self._runner.run(request))
        took_s = time.perf_counter() - started_s
        self._answers = [outcome for outcome in outcomes if isinstance(outcome, ItemSucceeded)]
        if len(self._answers) != len(self._items):
            raise RuntimeError(f"of {len(self._items)} texts {len(self._answers)} succeeded")
        return took_s

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [answer.input_tokens for answer in self._answers]

    @property
    def vectors(self) -> np.ndarray:
        """Rows in the order of the texts."""
        ordered = sorted(self._answers, key=lambda answer: answer.index)
        encoded = [orjson.loads(answer.body)["data"][0]["embedding"] for answer in ordered]
        return np.stack([np.frombuffer(base64.b64decode(text), dtype="<f4") for text in encoded])


class _Bare:
    """The model's own library, at the best of several batch sizes."""

    def __init__(self, folder: Path, texts: Sequence[str], *, device: str) -> None:
        self._texts = list(texts)
        self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        if device != "cpu":
            self._model.half()
        trial = self._texts[:: max(1, len(self._texts) // 4000)]
        self.batch_size = min(BATCH_SIZES, key=lambda size: self._encode(trial, size))
        self.vectors = np.empty(0)

    def seconds(self) -> float:
        """Run all texts once."""
        return self._encode(self._texts, self.batch_size)

    def _encode(self, texts: list[str], batch_size: int) -> float:
        started_s = time.perf_counter()
        self.vectors = self._model.encode(texts, batch_size=batch_size, show_progress_bar=False).astype(np.float32)
        return time.perf_counter() - started_s


if __name__ == "__main__":
    main()
