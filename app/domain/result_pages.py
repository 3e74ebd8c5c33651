"""Walking a job's result stream: which lines of which parts belong to a page, and where the next one begins.

The stream is the job's parts in their order and grows at its end, so a place in it stays valid; but for a retry, which
takes parts out of it. So a place tells at which run of the job it was given, and is refused where lines before it were
taken out since.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.jobs import ResultPart
from app.errors import InvalidRequest

_PLACE = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.([1-9][0-9]{0,8}))?")
_GROUP_PLACE = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?:\.([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the stream: behind ``n_lines`` lines of the part ``seq``."""

    seq: int = 0
    n_lines: int = 0
    run: int = 0
    """The job's ``attempt_runs`` when it was given."""

    def encode(self) -> str:
        """As clients carry it, without knowing what it means."""
        return _encoded(self.as_text())

    def as_text(self) -> str:
        """In the clear; the run only where there was a retry."""
        return f"{self.seq}.{self.n_lines}" + (f".{self.run}" if self.run else "")

    def is_behind(self, seq: int) -> bool:
        """Whether lines of the part ``seq`` lie before it."""
        return seq < self.seq or (seq == self.seq and self.n_lines > 0)

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read what ``encode`` wrote.

        Raises:
            InvalidRequest: it did not.
        """
        match = _match(_PLACE, text)
        return cls(seq=int(match[1]), n_lines=int(match[2]), run=int(match[3] or 0))


@dataclass(frozen=True, slots=True)
class GroupCursor:
    """A place in the merged stream of a group: behind ``place`` in the stream of its member ``ordinal``."""

    ordinal: int = 0
    n_runs_before: int = 0
    """Retries of the members before that one, when it was given."""
    place: Cursor = Cursor()

    def encode(self) -> str:
        """As clients carry it, without knowing what it means."""
        return _encoded(f"{self.ordinal}.{self.n_runs_before}.{self.place.as_text()}")

    @classmethod
    def decode(cls, text: str) -> GroupCursor:
        """Read what ``encode`` wrote.

        Raises:
            InvalidRequest: it did not.
        """
        match = _match(_GROUP_PLACE, text)
        place = Cursor(seq=int(match[3]), n_lines=int(match[4]), run=int(match[5] or 0))
        return cls(ordinal=int(match[1]), n_runs_before=int(match[2]), place=place)


def _encoded(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    try:
        padded = text + "=" * (-len(text) % 4)
        place = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        place = ""
    match = pattern.fullmatch(place)
    if match is None:
        raise InvalidRequest("'after' must be a cursor out of the header x-nightshift-next-cursor", param="after")
    return match


@dataclass(frozen=True, slots=True)
class PartSlice:
    """``take`` lines of a part behind its first ``skip``."""

    part: ResultPart
    skip: int
    take: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the part."""
        return self.take == self.part.n_items


@dataclass(frozen=True, slots=True)
class PageOfLines:
    """Some lines of a result stream."""

    slices: Sequence[PartSlice]
    end: Cursor
    """Where the next page begins."""
    has_more: bool
    """Whether lines that exist already follow."""


def page_of_lines(parts: Sequence[ResultPart], *, after: Cursor, limit: int | None) -> PageOfLines:
    """Choose the lines behind ``after``.

    Args:
        parts: in the order of the stream.
        limit: lines at most; None for all.
    """
    slices: list[PartSlice] = []
    end, room = after, limit
    for part in parts:
        skip = after.n_lines if part.seq == after.seq else 0
        left = part.n_items - skip if part.seq >= after.seq else 0
        if left <= 0:
            continue
        if room == 0:
            return PageOfLines(slices, end, has_more=True)
        take = left if room is None else min(left, room)
        slices.append(PartSlice(part, skip, take))
        end, room = Cursor(part.seq, skip + take), None if room is None else room - take
        if take < left:
            return PageOfLines(slices, end, has_more=True)
    return PageOfLines(slices, end, has_more=False)
