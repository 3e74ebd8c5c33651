"""Choosing the next token of each row of a batch: every row by its own rules and from its own random numbers.

A row draws one number a step and looks it up in the distribution, so that what a seed says does not depend on the
rows beside it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from workers.engines.generation_request import Sampling

_BELOW_ONE = 1.0 - 2.0**-22
"""A number nearer to one would become it in fp32, and fall behind the last token that has any weight."""

_COLDEST = 1e-4
"""Below it the likeliest token is certain, and fp32 has no room for the quotient."""


class Sampler:
    """The rules of one row, and its random numbers."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self.top_p = sampling.top_p
        self.top_k = sampling.top_k
        self._numbers = random.Random(sampling.seed)  # noqa: S311 - no secret

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature < _COLDEST or self.top_k == 1

    @property
    def is_cut(self) -> bool:
        """Whether only some of the likeliest tokens may be chosen."""
        return self.top_p < 1 or self.top_k is not None

    def unit(self) -> float:
        """The row's next number, from 0 to below 1."""
        return min(self._numbers.random(), _BELOW_ONE)


def choose_tokens(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """The next token of each row.

    Args:
        logits: (n, vocabulary), rows in the order of ``samplers``.
    """
    chosen = logits.argmax(dim=-1)
    warm = [row for row, sampler in enumerate(samplers) if not sampler.is_greedy]
    for rows in ([row for row in warm if not samplers[row].is_cut], [row for row in warm if samplers[row].is_cut]):
        if rows:
            places = torch.tensor(rows, device=logits.device)
            chosen[places] = _drawn(logits[places].float(), [samplers[row] for row in rows])
    tokens: list[int] = chosen.tolist()
    return tokens


def _drawn(logits: torch.Tensor, samplers: Sequence[Sampler]) -> torch.Tensor:
    """A token for each row, by its number; samplers are all cut or none is."""
    weights = torch.softmax(logits / _column(logits, [sampler.temperature for sampler in samplers]), dim=-1)
    order = None
    if samplers[0].is_cut:
        weights, order = _cut(weights, samplers)
    reached = weights.cumsum(dim=-1)
    aims = _column(logits, [sampler.unit() for sampler in samplers]) * reached[:, -1:]
    places = (reached <= aims).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return (places if order is None else order.gather(-1, places)).squeeze(-1)


def _cut(weights: torch.Tensor, samplers: Sequence[Sampler]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights from the largest on, nought where a token may not be chosen, and which tokens they are of."""
    weights, order = weights.sort(dim=-1, descending=True)
    ranks = torch.arange(weights.shape[-1], device=weights.device)
    before = weights.cumsum(dim=-1) - weights
    most = _column(weights, [sampler.top_k or weights.shape[-1] for sampler in samplers])
    kept = (before < _column(weights, [sampler.top_p for sampler in samplers])) & (ranks < most)
    kept[:, 0] = True
    return weights * kept, order


def _column(like: torch.Tensor, values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, device=like.device, dtype=torch.float32).unsqueeze(-1)
