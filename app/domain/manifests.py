"""What a job's results consist of, so that a copy of them can be checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.jobs import ResultPart


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of a job's result stream, in its order."""

    job_id: str
    complete: bool
    """Whether the job has ended: no part follows."""
    parts: Sequence[ResultPart]

    @property
    def digest(self) -> str:
        """See ``digest_of``."""
        return digest_of(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPart(ResultPart):
    """A result part, and the job of the group that it belongs to."""

    job_id: str


@dataclass(frozen=True, slots=True)
class GroupManifest:
    """The parts of a group's merged result stream, in its order."""

    group_id: str
    complete: bool
    """Whether the group has ended: no part follows."""
    parts: Sequence[GroupPart]

    @property
    def digest(self) -> str:
        """See ``digest_of``."""
        return digest_of(self.parts)


def digest_of(parts: Sequence[ResultPart]) -> str:
    """SHA-256, as hex, over the parts' own SHA-256 as hex, each with a line end, in order."""
    return hashlib.sha256("".join(f"{part.sha256}\n" for part in parts).encode()).hexdigest()
