"""The engine on a CUDA device, against the same model by its own library in fp32 on a CPU: `make gpu-test`."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pytest
from random_encoder import ALIAS, SMALL, write_random_encoder
from sentence_transformers import SentenceTransformer

from app.domain.items import InputItem, ItemSucceeded
from app.ports import RunRequest, RunStats
from tests.bench.embeddings import model_folder
from tests.bench.texts import mixed_texts
from workers.device_lock import DeviceLock
from workers.engines.registry import EngineRegistry
from workers.engines.sentence_transformers import PASS_SIZES_CUDA, SentenceTransformersEngine
from workers.engines.tuning import PassSizes
from workers.pipeline import PipelineRunner

pytestmark = pytest.mark.gpu
N_TEXTS = 300


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineRegistry, Path]:
    """An encoder of 22M parameters on the device, and the folder of its files."""
    folder = tmp_path_factory.mktemp("encoder")
    spec = write_random_encoder(SMALL, folder, tokenizer=model_folder())
    sizes = PassSizes(folder / "cache")
    registry = EngineRegistry(MappingProxyType({ALIAS: spec}), pool="gpu", device="cuda:0", pass_sizes=sizes)
    registry.warm()
    return registry, folder / "model"


def _vectors(registry: EngineRegistry, texts: list[str]) -> Any:
    items = [InputItem(index, str(index), {"input": text}, attempt=1) for index, text in enumerate(texts)]
    request = RunRequest(
        endpoint="/v1/embeddings",
        model=ALIAS,
        version="v1",
        items=items,
        should_stop=lambda: False,
        stats=RunStats(),
        on_oversize="truncate",
    )
    outcomes = sorted(PipelineRunner(registry, DeviceLock()).run(request), key=lambda outcome: outcome.index)
    assert all(isinstance(outcome, ItemSucceeded) for outcome in outcomes)
    return np.array([orjson.loads(outcome.body)["data"][0]["embedding"] for outcome in outcomes], dtype=np.float32)


def test_vectors_of_the_device_are_those_of_the_cpu(served: tuple[EngineRegistry, Path]) -> None:
    registry, folder = served
    texts = mixed_texts(N_TEXTS)

    wanted = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(texts)

    assert (_vectors(registry, texts) * wanted).sum(axis=1).min() >= 0.999


def test_the_size_of_a_pass_was_measured_on_the_device(served: tuple[EngineRegistry, Path]) -> None:
    engine = served[0].engine(model=ALIAS, version="v1", endpoint="/v1/embeddings")

    assert isinstance(engine, SentenceTransformersEngine)
    assert engine.tokens_per_pass in PASS_SIZES_CUDA
