"""Local chat on a CUDA device says in a batch what it says for each prompt alone: `make gpu-test`."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import orjson
import pytest
from tiny_chat_model import ALIAS, CHAT_ROUTES, make_tiny_chat_model, tiny_chat_entry, write_models_file

from app.domain.items import InputItem, ItemSucceeded
from app.ports import RunRequest, RunStats
from config.models import load_models
from workers.device_lock import DeviceLock
from workers.engines.registry import EngineRegistry
from workers.engines.transformers import TransformersEngine
from workers.pipeline import PipelineRunner

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> EngineRegistry:
    folder: Path = tmp_path_factory.mktemp("chat")
    entry = tiny_chat_entry(
        make_tiny_chat_model(folder / ALIAS), pools=["gpu"], assumed_tokens_per_second={"gpu": 9000}
    )
    models = load_models(write_models_file(folder / "models.yaml", entry))
    return EngineRegistry(MappingProxyType({ALIAS: models[ALIAS]}), pool="gpu", device="cuda:0")


def _said(registry: EngineRegistry, texts: list[str]) -> list[str]:
    bodies = [{"messages": [{"role": "user", "content": text}], "max_tokens": 16, "temperature": 0} for text in texts]
    request = RunRequest(
        endpoint=CHAT_ROUTES[0],
        model=ALIAS,
        version="v1",
        items=[InputItem(index, str(index), body, attempt=1) for index, body in enumerate(bodies)],
        should_stop=lambda: False,
        stats=RunStats(),
    )
    outcomes = sorted(PipelineRunner(registry, DeviceLock()).run(request), key=lambda outcome: outcome.index)
    assert all(isinstance(outcome, ItemSucceeded) for outcome in outcomes)
    return [orjson.loads(each.body)["choices"][0]["message"]["content"] for each in outcomes]  # type: ignore[union-attr]


def test_a_batch_says_what_each_prompt_alone_says(registry: EngineRegistry) -> None:
    texts = [f"question {'x' * number}" for number in range(12)]
    together, alone = _said(registry, texts), [_said(registry, [text])[0] for text in texts]
    # Half precision rounds differently in other company; random weights make close calls.
    assert sum(one == other for one, other in zip(together, alone, strict=True)) >= 10


def test_the_cache_of_a_batch_is_measured_by_the_devices_memory(registry: EngineRegistry) -> None:
    engine = registry.engine(model=ALIAS, version="v1", endpoint=CHAT_ROUTES[0])
    assert isinstance(engine, TransformersEngine)
    assert engine.tokens_per_batch > 100_000
