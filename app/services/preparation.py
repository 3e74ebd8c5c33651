"""What planners have in common, be it of a new job or of a retry: the right to plan one job, for a time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum

from app.db.repositories.jobs import Jobs
from app.domain.input_lines import LineProblem
from app.domain.jobs import Job
from app.errors import LeaseLost
from app.wiring import Wiring

RENEW_EVERY_S = 5.0


class Prepared(StrEnum):
    """How a preparation ended."""

    PLANNED = "planned"
    REFUSED = "refused"
    NOT_NEEDED = "not_needed"
    LOST = "lost"


class Preparation(ABC):
    """One planner's work on one job, under its token."""

    def __init__(self, wiring: Wiring, job: Job, token: str) -> None:
        self._wiring = wiring
        self._job = job
        self._token = token

    @abstractmethod
    def run(self) -> Prepared:
        """Plan the job."""

    @abstractmethod
    def fail(self, code: str, message: str, problems: Sequence[LineProblem] = ()) -> Prepared:
        """Write down that the job cannot be planned."""

    def give_back(self, *, counted: bool) -> None:
        """Let another try come at once.

        Args:
            counted: whether this one counts towards the most there may be.
        """
        with self._wiring.database.begin() as connection:
            Jobs(connection).release_preparation(self._job.id, token=self._token, counted=counted)

    def renewal(self) -> Callable[[], None]:
        """Gives what is to be called again and again while planning; it raises LeaseLost once another plans the job."""
        renewed_at = time.monotonic()

        def renew() -> None:
            nonlocal renewed_at
            if time.monotonic() - renewed_at < RENEW_EVERY_S:
                return
            renewed_at = time.monotonic()
            with self._wiring.database.begin() as connection:
                lease_s = self._wiring.settings.lease_s
                if not Jobs(connection).renew_preparation(self._job.id, token=self._token, lease_s=lease_s):
                    raise LeaseLost(f"another planner has job {self._job.id}")

        return renew
