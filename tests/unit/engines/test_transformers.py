"""Generation in batches says what the model's own library says for each prompt alone, and stops where it is told."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from running import answer, failure, items_of, run
from tiny_chat_model import ALIAS, CONTEXT_TOKENS, make_tiny_chat_model, tiny_chat_entry, write_models_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.domain.items import ItemErrorCode, ItemOutcome
from app.ports import RunStats
from config.models import load_models
from workers.device_lock import DeviceLock
from workers.engines import transformers as engine_module
from workers.engines.base import ModelUnloadable
from workers.engines.generation_request import Sampling
from workers.engines.registry import EngineRegistry
from workers.engines.sampling import Sampler, choose_tokens
from workers.engines.transformers import TransformersEngine
from workers.window_runner import WindowRunner

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUESTIONS = ["hi", "What is the capital of Portugal?", "Count to three, please, and then stop.", "a" * 90]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> EngineRegistry:
    folder = tmp_path_factory.mktemp("chat")
    path = write_models_file(folder / "models.yaml", tiny_chat_entry(make_tiny_chat_model(folder / ALIAS)))
    return EngineRegistry(load_models(path), pool="cpu", device="cpu")


@pytest.fixture
def chat(registry: EngineRegistry) -> TransformersEngine:
    return _served(registry, CHAT)


@pytest.fixture
def completions(registry: EngineRegistry) -> TransformersEngine:
    return _served(registry, COMPLETIONS)


def _served(registry: EngineRegistry, endpoint: str) -> TransformersEngine:
    engine = registry.engine(model=ALIAS, version="v1", endpoint=endpoint)
    assert isinstance(engine, TransformersEngine)
    return engine


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": ALIAS, "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


def said(outcome: ItemOutcome) -> str:
    return str(answer(outcome)["choices"][0]["message"]["content"])


def told(engine: TransformersEngine, text: str, **fields: Any) -> dict[str, Any]:
    (outcome,) = run(engine, [asking(text, **fields)])
    choice: dict[str, Any] = answer(outcome)["choices"][0]
    return choice


def generated(chat: TransformersEngine, text: str, n_tokens: int) -> tuple[int, list[int]]:
    """Tokens of the prompt, and the tokens that the library answers with."""
    folder = chat._model.model.name_or_path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    whole = model.generate(**prompt, do_sample=False, max_new_tokens=n_tokens)[0].tolist()
    n_prompt = prompt["input_ids"].shape[1]
    return n_prompt, whole[n_prompt:]


def test_a_batch_says_what_the_library_says_for_each_prompt_alone(chat: TransformersEngine) -> None:
    outcomes = run(chat, [asking(text, max_tokens=24) for text in QUESTIONS])
    for text, outcome in zip(QUESTIONS, outcomes, strict=True):
        n_prompt, tokens = generated(chat, text, 24)
        usage = answer(outcome)["usage"]
        assert said(outcome) == chat._model.tokenizer.decode(tokens, skip_special_tokens=True)
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (n_prompt, len(tokens))


def test_an_answer_tells_its_end_and_its_usage_in_the_shape_of_the_protocol(chat: TransformersEngine) -> None:
    (outcome,) = run(chat, [asking("hi", max_tokens=7)])
    body = answer(outcome)
    assert (body["object"], body["model"], body["id"][:9]) == ("chat.completion", ALIAS, "chatcmpl-")
    choice, usage = body["choices"][0], body["usage"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "length", "assistant")
    assert usage["completion_tokens"] == 7
    assert usage["total_tokens"] == usage["prompt_tokens"] + 7
    assert (outcome.input_tokens, outcome.output_tokens) == (usage["prompt_tokens"], 7)  # type: ignore[union-attr]


def test_answers_of_different_length_leave_the_batch_one_after_the_other(chat: TransformersEngine) -> None:
    together = run(chat, [asking(text, max_tokens=n) for n, text in enumerate(QUESTIONS, start=3)])
    alone = [run(chat, [asking(text, max_tokens=n)])[0] for n, text in enumerate(QUESTIONS, start=3)]
    assert [said(each) for each in together] == [said(each) for each in alone]
    usages = [answer(each)["usage"] for each in together]
    assert usages == [answer(each)["usage"] for each in alone]
    assert len({usage["completion_tokens"] for usage in usages}) > 1


def test_an_answer_ends_before_a_stop_sequence_and_names_it(chat: TransformersEngine) -> None:
    whole = told(chat, "hi", max_tokens=40)["message"]["content"]
    stop = whole[10:13]
    choice = told(chat, "hi", max_tokens=40, stop=["never said", stop])
    assert choice["message"]["content"] == whole[: whole.index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


def test_a_token_that_ends_answers_is_counted_and_not_shown(
    chat: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokens = generated(chat, "hi", 12)
    monkeypatch.setattr(chat._model, "end_tokens", frozenset({tokens[5]}))
    (outcome,) = run(chat, [asking("hi", max_tokens=100)])
    choice = answer(outcome)["choices"][0]
    n_shown = tokens.index(tokens[5])
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)
    assert choice["message"]["content"] == chat._model.tokenizer.decode(tokens[:n_shown], skip_special_tokens=True)
    assert answer(outcome)["usage"]["completion_tokens"] == n_shown + 1


def test_a_seed_says_the_same_in_any_company_and_another_seed_something_else(chat: TransformersEngine) -> None:
    seeded = asking("hi", temperature=1.2, seed=7, max_tokens=20)
    alone = said(run(chat, [seeded])[0])
    among = said(run(chat, [asking(QUESTIONS[2], temperature=1, max_tokens=20), seeded, asking("x", max_tokens=5)])[1])
    assert alone == among
    assert alone != said(run(chat, [{**seeded, "seed": 8}])[0])


def test_the_newer_name_of_max_tokens_is_taken_first(chat: TransformersEngine) -> None:
    (outcome,) = run(chat, [asking("hi", max_tokens=9, max_completion_tokens=4)])
    assert answer(outcome)["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": []}, "'messages'"),
        ({"messages": ["hi"]}, "'messages.0'"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "'messages.0.role'"),
        ({"messages": [{"role": "user", "content": 5}]}, "'messages.0.content'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'messages.0.content'"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "'messages.0.content'"),
        ({"max_tokens": 0}, "'max_tokens'"),
        ({"max_completion_tokens": 1.5}, "'max_completion_tokens'"),
        ({"temperature": 3}, "'temperature'"),
        ({"top_p": True}, "'top_p'"),
        ({"seed": "x"}, "'seed'"),
        ({"stop": [""]}, "'stop'"),
        ({"n": 2}, "'n'"),
        ({"stream": True}, "'stream'"),
        ({"tools": [{"type": "function"}]}, "'tools'"),
        ({"logprobs": True}, "'logprobs'"),
        ({"response_format": {"type": "json_object"}}, "'response_format'"),
        ({"max_token": 5}, "'max_token'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(chat: TransformersEngine, fields: dict[str, Any], named: str) -> None:
    outcomes = run(chat, [asking("hi", max_tokens=2), asking("hi", **fields)])
    assert failure(outcomes[1]).code == ItemErrorCode.INVALID_REQUEST
    assert failure(outcomes[1]).message.startswith(named)
    assert said(outcomes[0]) is not None


def test_values_that_ask_for_nothing_special_are_taken(chat: TransformersEngine) -> None:
    plain = {"n": 1, "stream": False, "tools": [], "logit_bias": None, "frequency_penalty": 0, "user": "somebody"}
    (outcome,) = run(chat, [asking("hi", max_tokens=2, **plain, response_format={"type": "text"})])
    assert answer(outcome)["choices"]


def test_a_missing_field_is_told_apart_by_route(chat: TransformersEngine, completions: TransformersEngine) -> None:
    for engine, body, named in ((chat, {"prompt": "x"}, "'messages'"), (completions, asking("x"), "'prompt'")):
        problem = failure(run(engine, [body])[0])
        assert problem.code == ItemErrorCode.MISSING_REQUIRED_PARAMETER
        assert problem.message.startswith(named)


def test_what_does_not_fit_into_the_context_is_refused_with_its_size(chat: TransformersEngine) -> None:
    long, greedy = run(chat, [asking("a" * 2 * CONTEXT_TOKENS), asking("hi", max_tokens=CONTEXT_TOKENS)])
    assert failure(long).code == failure(greedy).code == ItemErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert str(CONTEXT_TOKENS) in failure(greedy).message


def test_an_answer_without_a_limit_ends_at_the_latest_with_the_context(chat: TransformersEngine) -> None:
    (outcome,) = run(chat, [asking("a" * 460)])
    assert answer(outcome)["usage"]["total_tokens"] <= CONTEXT_TOKENS


def test_what_looks_like_a_control_token_in_a_message_is_text(chat: TransformersEngine) -> None:
    control, text = run(chat, [asking("<|im_end|>", max_tokens=1), asking("<+im_end+>", max_tokens=1)])
    assert answer(control)["usage"]["prompt_tokens"] == answer(text)["usage"]["prompt_tokens"]


def test_a_completion_continues_each_of_its_prompts_in_their_order(completions: TransformersEngine) -> None:
    bodies = [{"prompt": prompt, "temperature": 0, "max_tokens": 6} for prompt in (["one", "three and more"], "one")]
    several, single = (answer(outcome) for outcome in run(completions, bodies))
    assert [choice["index"] for choice in several["choices"]] == [0, 1]
    assert several["choices"][0]["text"] == single["choices"][0]["text"]
    assert (several["object"], several["usage"]["completion_tokens"]) == ("text_completion", 12)


def test_a_completion_takes_token_ids_and_says_sixteen_tokens_unless_told(completions: TransformersEngine) -> None:
    ids = completions._model.tokenizer("one")["input_ids"]
    by_ids, by_text, wrong = run(
        completions, [{"prompt": prompt, "temperature": 0} for prompt in (ids, "one", [10_000_000])]
    )
    assert answer(by_ids)["choices"] == answer(by_text)["choices"]
    assert answer(by_ids)["usage"]["completion_tokens"] == 16
    assert failure(wrong).code == ItemErrorCode.INVALID_REQUEST


def _forwarded(
    engine: TransformersEngine, bodies: Sequence[dict[str, Any]], should_stop: Any, lock: DeviceLock | None = None
) -> tuple[list[ItemOutcome], RunStats]:
    stats = RunStats()
    runner = WindowRunner(engine, hold_device=(lock or DeviceLock()).bulk, should_stop=should_stop, stats=stats)
    outcomes = list(runner.finish(runner.forward(engine.prepare(items_of(bodies)))))
    return sorted(outcomes, key=lambda outcome: outcome.index), stats


def test_a_stop_ends_the_batch_between_two_steps_and_keeps_what_had_ended(chat: TransformersEngine) -> None:
    asked: list[None] = []

    def should_stop() -> bool:
        asked.append(None)
        return len(asked) > 12

    outcomes, _ = _forwarded(chat, [asking("a", max_tokens=400), asking("b", max_tokens=3)], should_stop)
    assert [outcome.index for outcome in outcomes] == [1]
    assert answer(outcomes[0])["usage"]["completion_tokens"] == 3
    assert len(asked) < 20


def test_an_item_that_takes_longer_than_it_may_fails_and_its_batch_mates_do_not(
    chat: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = engine_module.Decoding.step

    n_steps = iter(range(1000))

    def slow_after_a_while(self: Any) -> None:
        step(self)
        if next(n_steps) == 8:
            self.began_s -= 1000

    monkeypatch.setattr(engine_module.Decoding, "step", slow_after_a_while)
    bodies = [asking("a", max_tokens=400), asking("b", max_tokens=3)]
    (long, short), _ = _forwarded(chat.within(500), bodies, lambda: False)
    assert failure(long).code == ItemErrorCode.ITEM_TIMEOUT
    assert answer(short)["usage"]["completion_tokens"] == 3


def test_a_request_that_somebody_waits_for_gets_the_device_between_the_steps_of_a_batch(
    chat: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "TURN_S", 0.0)
    lock, ended = DeviceLock(), threading.Event()

    def generate() -> None:
        _forwarded(chat, [asking("a", max_tokens=400)], lambda: False, lock)
        ended.set()

    thread = threading.Thread(target=generate)
    thread.start()
    n_turns = 0
    while n_turns < 5:
        with lock.urgent():
            n_turns += 1
    assert not ended.is_set()
    thread.join()


def test_only_what_fits_into_the_budget_runs_together(
    chat: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "tokens_per_batch", 300)
    window = chat.prepare(items_of([asking("x" * n, max_tokens=50) for n in (5, 120, 10, 60)]))
    assert [list(batch.positions) for batch in window.batches] == [[1], [3, 2], [0]]
    monkeypatch.setattr(chat, "most_rows", 1)
    assert len(chat.prepare(items_of([asking("x", max_tokens=1)] * 3)).batches) == 3


def test_a_batch_that_does_not_fit_on_the_device_is_narrowed_down(
    chat: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = engine_module.Decoding.step

    def small_device(self: Any) -> None:
        if len(self._live) > 2:
            raise torch.OutOfMemoryError
        step(self)

    monkeypatch.setattr(engine_module.Decoding, "step", small_device)
    outcomes = run(chat, [asking(text, max_tokens=3) for text in QUESTIONS])
    assert [answer(each)["usage"]["completion_tokens"] for each in outcomes] == [3] * 4


def test_a_model_without_a_chat_template_serves_no_chat(tmp_path: Path) -> None:
    entry = tiny_chat_entry(make_tiny_chat_model(tmp_path / ALIAS, template=None))
    models = load_models(write_models_file(tmp_path / "models.yaml", entry))
    with pytest.raises(ModelUnloadable, match="chat template"):
        EngineRegistry(models, pool="cpu", device="cpu").engine(model=ALIAS, version="v1", endpoint=COMPLETIONS)
    silent = replace(models[ALIAS], endpoints=(COMPLETIONS,))
    engine = EngineRegistry({ALIAS: silent}, pool="cpu", device="cpu").engine(
        model=ALIAS, version="v1", endpoint=COMPLETIONS
    )
    assert answer(run(engine, [{"prompt": "x", "max_tokens": 1}])[0])["choices"]


class TestSampling:
    """What is drawn, and from what."""

    LOGITS = torch.log(torch.tensor([0.2, 0.5, 0.3]))

    def _drawn(self, **rules: Any) -> list[float]:
        """Shares of the three tokens among many rows."""
        n_rows = 4000
        samplers = [
            Sampler(Sampling(**{"temperature": 1.0, "top_p": 1.0, "top_k": None, "seed": seed, **rules}))
            for seed in range(n_rows)
        ]
        tokens = choose_tokens(self.LOGITS.expand(n_rows, 3), samplers)
        return [tokens.count(token) / n_rows for token in range(3)]

    def test_tokens_come_as_often_as_the_model_says(self) -> None:
        assert self._drawn() == pytest.approx([0.2, 0.5, 0.3], abs=0.03)

    def test_top_p_leaves_the_likeliest_that_make_it_up(self) -> None:
        assert self._drawn(top_p=0.6) == pytest.approx([0, 5 / 8, 3 / 8], abs=0.03)
        assert self._drawn(top_p=0.0) == [0, 1, 0]

    def test_top_k_leaves_so_many(self) -> None:
        assert self._drawn(top_k=2) == pytest.approx([0, 5 / 8, 3 / 8], abs=0.03)
        assert self._drawn(top_k=1) == [0, 1, 0]

    def test_a_low_temperature_sharpens_and_none_takes_the_likeliest(self) -> None:
        assert self._drawn(temperature=0.5) == pytest.approx([4 / 38, 25 / 38, 9 / 38], abs=0.03)
        for temperature in (0.0, 1e-300, 0.001):
            assert self._drawn(temperature=temperature) == [0, 1, 0]
