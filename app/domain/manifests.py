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
        """SHA-256, as hex, over the parts' own SHA-256 as hex, each with a line end, in order."""
        return hashlib.sha256("".join(f"{part.sha256}\n" for part in self.parts).encode()).hexdigest()
