"""A job of chats by a model on the worker itself tells its usage, and a cancel does not wait for its longest answer."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from core_machine import CoreMachine
from seeded_work import Expected, SeededItem
from tiny_chat_model import ALIAS, make_tiny_chat_model, tiny_chat_entry, write_models_file

from app.domain.states import JobState
from app.services.cancel_job import cancel_job
from app.services.dispatch import Dispatcher
from config.models import load_models
from workers.device_lock import DeviceLock
from workers.engines import transformers
from workers.engines.registry import EngineRegistry
from workers.pipeline import PipelineRunner

CHAT = "/v1/chat/completions"


@pytest.fixture
def chatty(core: CoreMachine, tmp_path_factory: pytest.TempPathFactory) -> CoreMachine:
    """The core with the tiny chat model."""
    folder = tmp_path_factory.mktemp("chat")
    entry = tiny_chat_entry(make_tiny_chat_model(folder / ALIAS))
    models = load_models(write_models_file(folder / "models.yaml", entry))
    wiring = replace(core.wiring, models=models)
    runner = PipelineRunner(EngineRegistry(models, pool="cpu", device="cpu"), DeviceLock(shared=True))
    dispatcher = Dispatcher(settings=wiring.settings, models=models, database=wiring.database, publisher=core.publisher)
    return replace(core, wiring=wiring, runner=runner, dispatcher=dispatcher)


def chat(custom_id: str, *, max_tokens: int, **fields: Any) -> SeededItem:
    messages = [{"role": "user", "content": custom_id}]
    body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, **fields}
    return SeededItem(custom_id, body, Expected("succeeded"))


def statuses(core: CoreMachine, job_id: str) -> dict[str, str]:
    core.checker.check_job(job_id)
    return {name: line.status for name, line in core.checker.results(job_id).items()}


def test_a_job_of_chats_tells_what_went_in_and_what_came_out(chatty: CoreMachine) -> None:
    items = [chat(f"item-{number}", max_tokens=4 + number % 3) for number in range(12)]
    job_id = chatty.submit([*items, chat("bad", max_tokens=4, n=2)], endpoint=CHAT, model=ALIAS)
    chatty.prepare(job_id)
    job = chatty.drive(job_id)
    assert job.state is JobState.PARTIALLY_SUCCEEDED
    assert statuses(chatty, job_id) == {
        "bad": "failed",
        **dict.fromkeys((item.custom_id for item in items), "succeeded"),
    }
    (usage,) = chatty.sql("SELECT sum(output_tokens) AS out FROM chunks WHERE job_id = :id", id=job_id)
    assert 12 <= usage["out"] <= sum(4 + number % 3 for number in range(12))


def test_a_cancel_ends_the_answers_that_are_on_their_way_and_keeps_those_that_had_ended(
    chatty: CoreMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [chat(f"short-{number}", max_tokens=2) for number in range(5)]
    long = [chat(f"long-{number}", max_tokens=450) for number in range(3)]
    job_id = chatty.submit([*short, *long], endpoint=CHAT, model=ALIAS)
    chatty.prepare(job_id)
    step, steps = transformers.Decoding.step, iter(range(10_000))

    def cancelling(self: Any) -> None:
        time.sleep(0.02)
        step(self)
        if next(steps) == 10:
            cancel_job(wiring=chatty.wiring, tenant_id=chatty.tenant_id, job_id=job_id)

    monkeypatch.setattr(transformers.Decoding, "step", cancelling)
    started_s = time.monotonic()
    assert chatty.drive(job_id).state is JobState.CANCELLED
    assert time.monotonic() - started_s < 450 * 0.02
    found = statuses(chatty, job_id)
    assert {found[item.custom_id] for item in short} == {"succeeded"}
    assert {found[item.custom_id] for item in long} == {"cancelled"}
