"""One page of a list that is walked by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list, in its order."""

    items: Sequence[Item]
    has_more: bool
    """Whether the list goes on behind the last of ``items``."""


def page_of(rows: Sequence[Item], limit: int) -> Page[Item]:
    """Make a page of rows that were fetched with ``LIMIT limit + 1``."""
    return Page(items=rows[:limit], has_more=len(rows) > limit)
