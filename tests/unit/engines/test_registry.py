"""Which engine answers, and who waits for its loading."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from app.errors import ModelNotFound
from config.models import load_models
from workers.engines import registry as registry_module
from workers.engines.echo import EchoEngine
from workers.engines.registry import EngineRegistry

MODELS = load_models(Path(registry_module.__file__).parents[2] / "config" / "models.yaml")


def test_a_model_that_is_ready_does_not_wait_for_one_that_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    loading, go_on = threading.Event(), threading.Event()
    load = registry_module._load

    def slow_load(spec, version, *, device):  # type: ignore[no-untyped-def]
        if spec.engine != "echo":
            loading.set()
            assert go_on.wait(10)
            return EchoEngine()
        return load(spec, version, device=device)

    monkeypatch.setattr(registry_module, "_load", slow_load)
    engines = EngineRegistry(MODELS, pool="cpu", device="cpu")
    warming = threading.Thread(target=engines.warm)
    warming.start()
    assert loading.wait(10)

    try:
        assert isinstance(engines.engine(model="echo", version="v1", endpoint="/v1/echo"), EchoEngine)
    finally:
        go_on.set()
        warming.join()

    assert set(engines.warm_aliases()) == {"all-MiniLM-L6-v2", "echo"}


@pytest.mark.parametrize(
    ("model", "version", "endpoint"),
    [("nobody", "v1", "/v1/echo"), ("echo", "v9", "/v1/echo"), ("echo", "v1", "/v1/embeddings")],
)
def test_what_nobody_serves_is_refused(model: str, version: str, endpoint: str) -> None:
    with pytest.raises(ModelNotFound):
        EngineRegistry(MODELS, pool="cpu", device="cpu").engine(model=model, version=version, endpoint=endpoint)
