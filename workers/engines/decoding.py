"""A batch of prompts on its way to answers, one bounded step after the other.

Prompts are padded on the left, so that all rows go on together; a row that has ended leaves the batch at once, and what
it had in the cache goes with it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from workers.engines.generation_request import Generated, Sampling
from workers.engines.sampling import Sampler, choose_tokens

_BYTES_PER_CHARACTER = 4
_OPEN_TOKENS = 4
"""Tokens more than a stop sequence has bytes in which it is looked for: some show nothing."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt, and how its answer is to be made."""

    token_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...]

    @property
    def most_tokens(self) -> int:
        """What the row may take up in the cache."""
        return len(self.token_ids) + self.max_tokens


class CausalModel:
    """A causal language model with its tokeniser, as decoding needs them."""

    def __init__(self, model: Any, tokenizer: Any, *, tokens_per_step: int) -> None:
        """Bind a loaded model.

        Args:
            tokens_per_step: of all prompts together that one step reads, so that none takes long.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.tokens_per_step = tokens_per_step
        self.end_tokens = _end_tokens(model, tokenizer)
        self._takes = frozenset(inspect.signature(model.forward).parameters)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = self.model.device
        return device

    def new_cache(self) -> DynamicCache:
        """An empty cache of the kinds that its layers need."""
        return DynamicCache(config=self.model.config)

    def next_logits(self, **inputs: Any) -> torch.Tensor:
        """Read columns of tokens; (n, vocabulary) for the token that follows the last."""
        wanted = {"logits_to_keep": 1, "use_cache": True, **inputs}
        output = self.model(**{name: value for name, value in wanted.items() if name in self._takes})
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def text_of(self, token_ids: Sequence[int]) -> str:
        """What tokens say, without those that only end or begin something."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


@dataclass(slots=True)
class _Answer:
    """An answer while it grows."""

    row: PromptRow
    sampler: Sampler
    token_ids: list[int] = field(default_factory=list)
    generated: Generated | None = None

    def add(self, token: int, model: CausalModel) -> None:
        """Take the next token; sets ``generated`` where it is the last."""
        self.token_ids.append(token)
        if token in model.end_tokens:
            self._end(model.text_of(self.token_ids[:-1]), "stop")
        elif self.row.stop and self._stopped(model):
            return
        elif len(self.token_ids) >= self.row.max_tokens:
            self._end(model.text_of(self.token_ids), "length")

    def _stopped(self, model: CausalModel) -> bool:
        longest = max(map(len, self.row.stop)) * _BYTES_PER_CHARACTER + _OPEN_TOKENS
        tail = model.text_of(self.token_ids[-longest:])
        if not any(stop in tail for stop in self.row.stop):
            return False
        text = model.text_of(self.token_ids)
        found = [(text.find(stop), stop) for stop in self.row.stop if stop in text]
        if found:
            place, stop = min(found)
            self._end(text[:place], "stop", stop)
        return bool(found)

    def _end(self, text: str, reason: Any, stop: str | None = None) -> None:
        self.generated = Generated(text, len(self.token_ids), reason, stop)


class Decoding:
    """The state of one batch between its steps."""

    def __init__(self, model: CausalModel, rows: Sequence[PromptRow]) -> None:
        """Lay out the prompts; nothing has run yet."""
        self._model = model
        self._answers = [_Answer(row, Sampler(row.sampling)) for row in rows]
        self._live = list(range(len(rows)))
        self._cache = model.new_cache()
        self._ids, self._mask = _padded([row.token_ids for row in rows], model.device)
        self._positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        self._n_read = 0
        self.began_s = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether every answer has ended."""
        return not self._live

    @property
    def ended(self) -> dict[int, Generated]:
        """Row -> its answer, of those that have ended."""
        return {row: each.generated for row, each in enumerate(self._answers) if each.generated is not None}

    def step(self) -> None:
        """Read the next columns of the prompts, or add a token to every answer that has not ended."""
        n_columns = max(1, self._model.tokens_per_step // len(self._live))
        to = min(self._n_read + n_columns, self._ids.shape[1])
        logits = self._model.next_logits(
            input_ids=self._ids[:, self._n_read : to],
            attention_mask=self._mask[:, :to],
            position_ids=self._positions[:, self._n_read : to],
            past_key_values=self._cache,
        )
        self._n_read = to
        if to == self._ids.shape[1]:
            self._grow(choose_tokens(logits, [self._answers[row].sampler for row in self._live]))

    def _grow(self, tokens: Sequence[int]) -> None:
        for row, token in zip(self._live, tokens, strict=True):
            self._answers[row].add(token, self._model)
        kept = [place for place, row in enumerate(self._live) if self._answers[row].generated is None]
        if len(kept) < len(self._live):
            self._keep(kept)
        if kept:
            self._append([tokens[place] for place in kept])

    def _keep(self, places: Sequence[int]) -> None:
        """Go on with some of the rows."""
        self._live = [self._live[place] for place in places]
        if not places:
            return
        chosen = torch.tensor(places, device=self._mask.device)
        self._cache.batch_select_indices(chosen)
        self._ids, self._mask, self._positions = (each[chosen] for each in (self._ids, self._mask, self._positions))

    def _append(self, tokens: Sequence[int]) -> None:
        """The tokens that the next step reads, one for each row."""
        column = torch.tensor(tokens, device=self._ids.device).unsqueeze(-1)
        self._ids = torch.cat([self._ids, column], dim=-1)
        self._mask = torch.cat([self._mask, torch.ones_like(column)], dim=-1)
        self._positions = torch.cat([self._positions, self._positions[:, -1:] + 1], dim=-1)


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both int64 (n, t); padding is on the left, id 0 and masked out."""
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, longest - len(row) :] = torch.tensor(row)
        mask[place, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token after which an answer is over."""
    named = [model.generation_config.eos_token_id, model.config.get_text_config().eos_token_id, tokenizer.eos_token_id]
    flat = [token for each in named for token in (each if isinstance(each, list) else [each])]
    return frozenset(token for token in flat if token is not None)
