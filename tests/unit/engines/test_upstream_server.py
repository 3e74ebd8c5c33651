"""The engine ``upstream`` against a server that somebody else wrote, and against our own engine over the same model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from running import answer, failure, run
from tiny_chat_model import ALIAS, make_tiny_chat_model, tiny_chat_entry, write_models_file
from transformers_server import transformers_server

from app.domain.items import ItemErrorCode
from config.models import UpstreamServer, load_models
from workers.engines.base import AnyEngine
from workers.engines.registry import EngineRegistry
from workers.engines.upstream import UpstreamEngine

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TEXTS = ["hi", "What is the capital of Portugal?", "Count to three, please, and then stop."]


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, free_tcp_port_factory: Any
) -> Iterator[tuple[UpstreamServer, EngineRegistry]]:
    """The server, and our engines over the model that it has."""
    folder = tmp_path_factory.mktemp("served")
    model = make_tiny_chat_model(folder / ALIAS)
    models = load_models(write_models_file(folder / "models.yaml", tiny_chat_entry(model)))
    with transformers_server(model, folder, port=free_tcp_port_factory()) as server:
        yield server, EngineRegistry(models, pool="cpu", device="cpu")


@pytest.fixture
def upstream(both: tuple[UpstreamServer, EngineRegistry]) -> Iterator[UpstreamEngine]:
    engine = UpstreamEngine(ALIAS, both[0], key=None)
    yield engine
    engine.close()


def _local(both: tuple[UpstreamServer, EngineRegistry], endpoint: str) -> AnyEngine:
    return both[1].engine(model=ALIAS, version="v1", endpoint=endpoint)


def test_chats_come_back_as_our_own_engine_answers_them(both: Any, upstream: UpstreamEngine) -> None:
    bodies = [
        {"model": ALIAS, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 12}
        for text in TEXTS
    ]
    theirs, ours = run(upstream.serving(CHAT), bodies), run(_local(both, CHAT), bodies)
    for their, our in zip(map(answer, theirs), map(answer, ours), strict=True):
        assert their["choices"][0]["message"]["content"] == our["choices"][0]["message"]["content"]
        assert (their["object"], their["model"], their["usage"]) == (our["object"], ALIAS, our["usage"])
        assert their["choices"][0]["finish_reason"] == our["choices"][0]["finish_reason"]


def test_completions_too(both: Any, upstream: UpstreamEngine) -> None:
    body = {"model": ALIAS, "prompt": TEXTS[1], "temperature": 0, "max_tokens": 12}
    (their,), (our,) = run(upstream.serving(COMPLETIONS), [body]), run(_local(both, COMPLETIONS), [body])
    assert answer(their)["choices"][0]["text"] == answer(our)["choices"][0]["text"]
    assert answer(their)["usage"] == answer(our)["usage"]


def test_what_the_server_has_against_a_request_is_told(both: Any) -> None:
    engine = UpstreamEngine(ALIAS, replace(both[0], model="another"), key=None)
    (outcome,) = run(engine, [{"messages": [{"role": "user", "content": "hi"}]}])
    engine.close()
    assert failure(outcome).code == ItemErrorCode.INVALID_REQUEST
    assert "another" in failure(outcome).message
