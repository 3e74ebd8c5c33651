"""Where a model's work may run: rules over the workers that live and the rates of their pools. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

MIN_RATE_SHARE = 0.1
"""A pool that is slower than this share of the fastest one adds less than its chunks would hold up the end."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The live workers of a pool that can load the same models; mostly that is the whole pool."""

    pool: str
    unloadable: frozenset[str] = frozenset()
    """Models that its workers tried to load lately and could not."""

    @property
    def name(self) -> str:
        """The pool's name, and what tells this lane from the others of the pool."""
        return "!".join((self.pool, *sorted(self.unloadable)))

    def can_run(self, model: str | None, pools: Collection[str] | None) -> bool:
        """Whether a model that lives on ``pools`` (None: on any) can run here."""
        return (pools is None or self.pool in pools) and model not in self.unloadable


def lanes_for(
    model: str | None, pools: Collection[str] | None, lanes: Iterable[Lane], *, rate_of: Callable[[str], float]
) -> tuple[str, ...]:
    """The lanes in which work of a model may run now, by name; none where no live worker can run it.

    Args:
        pools: where the model lives; None: anywhere.
        rate_of: tokens a second of a worker of a pool; zero where it is not known.
    """
    able = [lane for lane in lanes if lane.can_run(model, pools)]
    fastest = max((rate_of(lane.pool) for lane in able), default=0.0)
    return tuple(lane.name for lane in able if rate_of(lane.pool) >= fastest * MIN_RATE_SHARE)
