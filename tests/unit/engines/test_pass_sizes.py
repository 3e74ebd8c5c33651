from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import orjson
import pytest
from random_encoder import ALIAS, TINY, write_random_encoder
from sentence_transformers import SentenceTransformer

from app.domain.items import InputItem, ItemSucceeded
from app.errors import OutOfDeviceMemory
from tests.bench.embeddings import model_folder
from workers.engines.packed_linear import PackedLinear
from workers.engines.registry import EngineRegistry
from workers.engines.sentence_transformers import PASS_SIZES_CPU, SentenceTransformersEngine
from workers.engines.tuning import PassSizes, measure_rates, smallest_good

NAMES = ("model", "v1", "a device")


def _device(*, overhead_s: float, fits: int = 1 << 30) -> Callable[[int], int]:
    """A device with a fixed cost for each pass."""

    def run(n_tokens: int) -> int:
        if n_tokens > fits:
            raise OutOfDeviceMemory("too much")
        time.sleep(overhead_s + n_tokens * 1e-6)
        return n_tokens

    return run


def test_of_sizes_that_are_about_as_fast_the_smallest_is_taken() -> None:
    assert smallest_good({256: 90.0, 512: 98.0, 1024: 100.0, 2048: 99.0}) == 512


def test_a_device_that_fits_nothing_says_so() -> None:
    with pytest.raises(OutOfDeviceMemory):
        smallest_good({})


def test_sizes_that_do_not_fit_are_left_out() -> None:
    assert set(measure_rates((100, 200, 400), _device(overhead_s=0.0, fits=200), time.perf_counter)) == {100, 200}


def test_a_size_is_measured_once_and_then_known(tmp_path: Path) -> None:
    sizes, passes = PassSizes(tmp_path / "new" / "folder"), []

    def run(n_tokens: int) -> int:
        passes.append(n_tokens)
        return _device(overhead_s=0.02)(n_tokens)

    assert sizes.best(names=NAMES, candidates=(100, 10_000), run=run) == 10_000
    n_passes = len(passes)
    assert sizes.best(names=NAMES, candidates=(100, 10_000), run=run) == 10_000
    assert len(passes) == n_passes
    assert sizes.best(names=(*NAMES, "another torch"), candidates=(100, 10_000), run=run) == 10_000
    assert len(passes) == 2 * n_passes


def test_what_is_not_ours_in_the_folder_is_measured_again(tmp_path: Path) -> None:
    sizes = PassSizes(tmp_path)
    sizes.best(names=NAMES, candidates=(100,), run=_device(overhead_s=0.0))
    (kept,) = tmp_path.iterdir()
    for content in ("", "[]", json.dumps({"tokens_per_pass": 7})):
        kept.write_text(content, encoding="utf-8")
        assert sizes.best(names=NAMES, candidates=(100,), run=_device(overhead_s=0.0)) == 100


def test_a_folder_that_cannot_be_written_costs_a_measurement_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    assert PassSizes(tmp_path / "file" / "folder").best(
        names=NAMES, candidates=(100,), run=_device(overhead_s=0.0)
    ) == 100  # fmt: skip


def test_without_a_folder_nothing_is_measured() -> None:
    def run(_: int) -> int:
        raise AssertionError("measured")

    assert PassSizes(None).best(names=NAMES, candidates=(100,), run=run) is None


def test_an_encoder_settles_its_size_and_answers_as_its_library_does(tmp_path: Path) -> None:
    spec = write_random_encoder(TINY, tmp_path, tokenizer=model_folder())
    models, sizes = MappingProxyType({ALIAS: spec}), PassSizes(tmp_path / "cache")
    engine = EngineRegistry(models, pool="cpu", device="cpu", pass_sizes=sizes).engine(
        model=ALIAS, version="v1", endpoint="/v1/embeddings"
    )
    assert isinstance(engine, SentenceTransformersEngine)
    assert engine.tokens_per_pass in PASS_SIZES_CPU
    texts = ["one", "two words", "three short words " * 20]

    window = engine.prepare([InputItem(i, str(i), {"input": text}, 1) for i, text in enumerate(texts)])
    answers = [(batch, engine.forward(batch, should_stop=lambda: False)) for batch in window.batches]
    outcomes = list(engine.finish(window, answers, range(len(texts))))

    assert all(isinstance(outcome, ItemSucceeded) for outcome in outcomes)
    found = np.array([orjson.loads(outcome.body)["data"][0]["embedding"] for outcome in outcomes], dtype=np.float32)
    wanted = SentenceTransformer(str(tmp_path / "model"), device="cpu", local_files_only=True).encode(texts)
    assert (found * wanted).sum(axis=1).min() >= 0.999999
    n_layers = sum(isinstance(module, PackedLinear) for module in engine._model.modules())
    assert n_layers >= 6 * TINY.n_layers
