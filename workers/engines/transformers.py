"""Chat and completions by any causal language model of transformers, for machines without a server for it."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome, ItemSucceeded
from config.models import ModelSpec, ModelVersion
from workers.engines import device_errors
from workers.engines.base import (
    UNFINISHED,
    BadItem,
    Engine,
    ModelUnloadable,
    Stopped,
    Unfinished,
    invalid,
)
from workers.engines.decoding import CausalModel, Decoding, PromptRow
from workers.engines.generation_request import (
    Generated,
    GenerationRequest,
    Message,
    Prompt,
    Sampling,
    generation_response,
    parse_chat_request,
    parse_completion_request,
)
from workers.engines.model_files import model_folder, refuse_int8
from workers.engines.token_batches import runs_by_budget

CHAT = "/v1/chat/completions"
ANSWER_TOKENS = 1024
"""Of a chat that says nothing about it, where the model says nothing either."""
TURN_S = 0.1
"""After which others may have the device."""
TOKENS_PER_STEP_CPU = 512
TOKENS_PER_STEP_CUDA = 8192
TOKENS_PER_BATCH_CPU = 16_384
CACHE_SHARE = 0.4
"""Of the free memory of a GPU, for the cache of a batch; while it grows, layer by layer, it stands there twice."""
MOST_ROWS_CPU = 32
MOST_ROWS_CUDA = 256


@dataclass(slots=True)
class GenerationBatch:
    """Prompts that run together, those that may take up the most first."""

    numbers: Sequence[int]
    """Row numbers in the window."""
    positions: Sequence[int]
    """For each row the position of its item in the window."""
    rows: Sequence[PromptRow]
    decoding: Decoding | None = None
    """How far it is; None before its first step and behind its last."""

    def halves(self) -> tuple[Self, Self] | None:
        """The larger and the smaller half of the rows; both begin anew."""
        if len(self.rows) < 2:
            return None
        middle = len(self.rows) // 2
        return self.part(range(middle)), self.part(range(middle, len(self.rows)))

    def part(self, places: Sequence[int]) -> Self:
        """Some of the rows, none of which has begun."""
        return type(self)(
            numbers=[self.numbers[place] for place in places],
            positions=[self.positions[place] for place in places],
            rows=[self.rows[place] for place in places],
        )


Answers = dict[int, Generated | None]
"""By row number in the window; None where the row took too long."""


@dataclass(slots=True)
class GenerationWindow:
    """Checked and tokenised items."""

    items: Sequence[InputItem]
    refused: dict[int, ItemFailed] = field(default_factory=dict)
    requests: dict[int, GenerationRequest] = field(default_factory=dict)
    numbers_of: dict[int, range] = field(default_factory=dict)
    """Position -> its row numbers, in the order of its prompts."""
    rows: list[PromptRow] = field(default_factory=list)
    batches: list[GenerationBatch] = field(default_factory=list)

    def accept(self, position: int, rows: Sequence[PromptRow]) -> None:
        """Append an item's rows."""
        first = len(self.rows)
        self.rows.extend(rows)
        self.numbers_of[position] = range(first, len(self.rows))


class TransformersEngine(Engine[GenerationWindow, GenerationBatch, Answers]):
    """One model on one device."""

    joins_requests = True
    takes_long = True
    keeps_item_timeout = True
    window_items = 256

    def __init__(self, spec: ModelSpec, version: ModelVersion, *, device: str) -> None:
        """Load the model.

        Args:
            device: ``cpu`` or ``cuda:0``.
        Raises:
            ModelUnloadable: the files are missing, or do not serve the endpoints of the models file.
        """
        on_cuda = device != "cpu"
        self._alias = spec.alias
        self._model = _load(version, device=device)
        config = self._model.model.config.get_text_config()
        self._context = getattr(config, "max_position_embeddings", None) or spec.max_input_tokens
        self._max_tokens = min(spec.max_input_tokens, self._context - 1)
        self._vocabulary_size = config.vocab_size
        self._default = _default_sampling(self._model.model.generation_config)
        self._answer_tokens = self._model.model.generation_config.max_new_tokens or ANSWER_TOKENS
        self._endpoint = CHAT
        self._item_timeout_s: float | None = None
        self._tokenizing = threading.Lock()
        self.most_rows = MOST_ROWS_CUDA if on_cuda else MOST_ROWS_CPU
        self.tokens_per_batch = _tokens_per_batch(self._model, config) if on_cuda else TOKENS_PER_BATCH_CPU
        if spec.serves(CHAT) and not self._model.tokenizer.chat_template:
            raise ModelUnloadable(f"{spec.alias} has no chat template; take {CHAT} out of its endpoints")

    def within(self, item_timeout_s: float | None) -> TransformersEngine:
        """See ``Engine.within``: an answer may take so long from when its batch begins."""
        bound = copy.copy(self)
        bound._item_timeout_s = item_timeout_s  # noqa: SLF001 - of its own class
        return bound

    def serving(self, endpoint: str) -> TransformersEngine:
        """See ``Engine.serving``."""
        bound = copy.copy(self)
        bound._endpoint = endpoint  # noqa: SLF001 - of its own class
        return bound

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> GenerationWindow:
        """Check all bodies, tokenise prompts, put those of like size together."""
        window = GenerationWindow(items=items)
        for position, item in enumerate(items):
            try:
                request = self._parse(item)
                window.accept(position, [self._row(request, ids, on_oversize) for ids in self._tokenised(request)])
                window.requests[position] = request
            except BadItem as problem:
                window.refused[position] = problem.outcome(item.index)
        owners = [position for position, numbers in window.numbers_of.items() for _ in numbers]
        everything = GenerationBatch(range(len(owners)), owners, window.rows)
        sizes = [row.most_tokens for row in window.rows]
        runs = runs_by_budget(sizes, budget=self.tokens_per_batch, most_rows=self.most_rows)
        window.batches = [everything.part(run) for run in runs]
        return window

    def forward(self, batch: GenerationBatch, *, should_stop: Callable[[], bool]) -> Answers | Unfinished:
        """Go on with one batch until its answers have ended or others may have the device.

        Raises:
            OutOfDeviceMemory: run the halves instead.
            DeviceLost: the CUDA context is poisoned.
            Stopped: with the answers that had ended by then.
        """
        # It goes back only where there is more to do: whatever else happens, its cache goes.
        decoding, batch.decoding = batch.decoding or Decoding(self._model, batch.rows), None
        try:
            with torch.inference_mode():
                has_more = self._has_more(decoding, should_stop)
        except RuntimeError as error:
            raise device_errors.named(error, what=f"a batch of {len(batch.rows)} prompts") from error
        if has_more and should_stop():
            raise Stopped(_ended_part(batch, decoding.ended))
        if has_more:
            batch.decoding = decoding
            return UNFINISHED
        ended = decoding.ended
        return {number: ended.get(place) for place, number in enumerate(batch.numbers)}

    def finish(
        self, window: GenerationWindow, answers: Sequence[tuple[GenerationBatch, Answers]], positions: Sequence[int]
    ) -> Iterator[ItemOutcome]:
        """Put each item's answers together and serialise them."""
        by_number = {number: answer for _, each in answers for number, answer in each.items()}
        for position in positions:
            yield self._outcome(window, position, [by_number[number] for number in window.numbers_of[position]])

    def _outcome(self, window: GenerationWindow, position: int, found: Sequence[Generated | None]) -> ItemOutcome:
        index = window.items[position].index
        ended = [answer for answer in found if answer is not None]
        if len(ended) < len(found):
            message = f"the answer took longer than {self._item_timeout_s:g} s; give it more time or fewer tokens"
            return ItemFailed(index, ItemErrorCode.ITEM_TIMEOUT, message)
        n_prompt_tokens = sum(len(window.rows[number].token_ids) for number in window.numbers_of[position])
        body = generation_response(window.requests[position], ended, model=self._alias, n_prompt_tokens=n_prompt_tokens)
        return ItemSucceeded(index, body, n_prompt_tokens, sum(answer.n_tokens for answer in ended))

    def _has_more(self, decoding: Decoding, should_stop: Callable[[], bool]) -> bool:
        """Take steps until all is done, this turn is over or ``should_stop()``; whether there is more to do."""
        turn_ends_s = time.monotonic() + TURN_S
        while not decoding.is_done and not self._took_too_long(decoding):
            if should_stop():
                return True
            decoding.step()
            if time.monotonic() >= turn_ends_s:
                return not decoding.is_done
        return False

    def _took_too_long(self, decoding: Decoding) -> bool:
        return self._item_timeout_s is not None and time.monotonic() - decoding.began_s > self._item_timeout_s

    def _parse(self, item: InputItem) -> GenerationRequest:
        if self._endpoint == CHAT:
            return parse_chat_request(item.body, default=self._default)
        return parse_completion_request(item.body, default=self._default, vocabulary_size=self._vocabulary_size)

    def _tokenised(self, request: GenerationRequest) -> list[list[int]]:
        # The tokeniser cannot be shared by threads while it is set up for a call.
        with self._tokenizing:
            if request.messages is not None:
                return [self._templated(request.messages)]
            return [self._encoded(prompt) for prompt in request.prompts]

    def _templated(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat; what looks like a control token in a message is text like any other."""
        try:
            ids: list[int] = self._model.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=False, sanitize_control_tokens=True
            )
        except (TemplateError, TypeError, ValueError) as error:  # templates are programs, and this is their input
            raise invalid(f"'messages' do not fit the model's chat template: {error}") from error
        return ids

    def _encoded(self, prompt: Prompt) -> list[int]:
        ids: list[int] = self._model.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        return ids

    def _row(self, request: GenerationRequest, token_ids: list[int], on_oversize: str) -> PromptRow:
        name = "prompt" if request.messages is None else "messages"
        n_tokens = len(token_ids)
        if n_tokens == 0:
            raise invalid(f"'{name}' hold no token")
        if n_tokens > self._max_tokens:
            if on_oversize != "fail":
                raise invalid(f"on_oversize '{on_oversize}' is not supported for chat and completions; use 'fail'")
            message = f"'{name}' have {n_tokens} tokens, {self._alias} takes {self._max_tokens}; shorten them"
            raise BadItem(ItemErrorCode.CONTEXT_LENGTH_EXCEEDED, message)
        room = self._context - n_tokens
        if request.max_tokens is not None and request.max_tokens > room:
            message = (
                f"'max_tokens' is {request.max_tokens} and '{name}' have {n_tokens} tokens; together {self._alias} "
                f"takes {self._context}"
            )
            raise BadItem(ItemErrorCode.CONTEXT_LENGTH_EXCEEDED, message)
        max_tokens = min(request.max_tokens or self._answer_tokens, room)
        return PromptRow(token_ids, max_tokens, request.sampling, request.stop)


def _ended_part(batch: GenerationBatch, ended: Mapping[int, Generated]) -> tuple[GenerationBatch, Answers] | None:
    """Of a batch that is stopped, the items all of whose answers have ended."""
    missing = {position for place, position in enumerate(batch.positions) if place not in ended}
    kept = [place for place, position in enumerate(batch.positions) if position not in missing]
    if not kept:
        return None
    return batch.part(kept), {batch.numbers[place]: ended[place] for place in kept}


def _load(version: ModelVersion, *, device: str) -> CausalModel:
    refuse_int8(version)
    folder = str(model_folder(version))
    on_cuda = device != "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    # On a GPU as it was saved, which is half precision for all but old models; on a CPU that is slower than fp32.
    dtype = "auto" if on_cuda else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)
    if on_cuda and model.dtype == torch.float32:
        model = model.to(torch.bfloat16)
    model = model.to(device).eval().requires_grad_(False)
    return CausalModel(model, tokenizer, tokens_per_step=TOKENS_PER_STEP_CUDA if on_cuda else TOKENS_PER_STEP_CPU)


def _default_sampling(config: Any) -> Sampling:
    """As the model's makers recommend it, where they do; else as in OpenAI's API."""
    if not config.do_sample:
        return Sampling(temperature=1.0, top_p=1.0, top_k=None)
    temperature = 1.0 if config.temperature is None else config.temperature
    top_p = 1.0 if config.top_p is None else config.top_p
    return Sampling(temperature=temperature, top_p=top_p, top_k=config.top_k or None)


def _tokens_per_batch(model: CausalModel, config: Any) -> int:
    """How many tokens the cache of a batch may hold in what is free on the GPU."""
    n_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes: int = 2 * config.num_hidden_layers * n_heads * head_size * model.model.dtype.itemsize
    free_bytes, _ = torch.cuda.mem_get_info(model.device)
    return max(1, int(CACHE_SHARE * free_bytes) // token_bytes)
