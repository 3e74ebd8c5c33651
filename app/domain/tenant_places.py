"""Which jobs of a tenant may run under its quota: a line in which everybody keeps their turn. Pure.

A job is *admitted* when its first chunk is granted, and stays so until it ends or is set aside. Whoever is not waits in
one line, whatever the pool: by class, then the earliest deadline, then age. Nobody overtakes: where the first of the
line finds no place, those behind it wait too, else a large job could wait for ever. A job that is larger than the whole
token quota runs when it would be alone.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.jobs import Priority
from app.domain.tenants import TenantQuota


class Cap(StrEnum):
    """The quota that keeps a job back; named as the quota is."""

    MAX_RUNNING_JOBS = "max_running_jobs"
    MAX_CHUNKS = "max_chunks"
    MAX_ENQUEUED_TOKENS = "max_enqueued_tokens"

    @property
    def waiting_reason(self) -> str:
        """What the job's ``waiting.reason`` says."""
        return "tenant_tokens" if self is Cap.MAX_ENQUEUED_TOKENS else "tenant_concurrency"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job whose chunks may be granted, as far as its own row says."""

    id: str
    tenant_id: str
    pools: tuple[str, ...]
    """Where it may run."""
    model: str | None
    model_version: str | None
    priority: Priority
    deadline_at: datetime
    created_at: datetime
    is_admitted: bool
    remaining_tokens: int
    """Estimated tokens of its chunks that have not ended."""


_RANK = {priority: rank for rank, priority in enumerate(Priority)}
_Key = tuple[int, datetime, datetime, str]


@dataclass(slots=True, eq=False)
class Place:
    """One job among those of its tenant; changed in place while it is known."""

    job: QueuedJob
    key: _Key
    is_gone: bool = False
    is_admitted: bool = False
    is_promised: bool = False
    """Next in line for a place that is free; it takes it with its first chunk."""
    is_idle: bool = False
    """Has no chunk that may run now."""
    lanes: set[str] = field(default_factory=set)
    """The pools in whose lanes it stands."""

    @property
    def may_run(self) -> bool:
        """Whether the caps on jobs and tokens let it run."""
        return not self.is_gone and (self.is_admitted or self.is_promised)

    def __lt__(self, other: Place) -> bool:
        return self.key < other.key


def place_of(job: QueuedJob) -> Place:
    """A new place for a job, at its turn in the line."""
    key = (_RANK[job.priority], job.deadline_at, job.created_at, job.id)
    return Place(job, key, is_admitted=job.is_admitted)


@dataclass(slots=True)
class TenantPlaces:
    """The jobs of one tenant: admitted, promised a place, or in the line behind."""

    quota: TenantQuota
    n_busy: int = 0
    """Chunks of the tenant that are with workers, over all pools."""
    _n_held: int = 0
    _tokens_held: int = 0
    _promised: dict[str, Place] = field(default_factory=dict)
    _last_promised: Place | None = None
    _line: list[Place] = field(default_factory=list)
    _n_gone_in_line: int = 0
    _is_out_of_turn: bool = False

    @property
    def is_at_its_chunks(self) -> bool:
        """Whether ``max_chunks`` is reached."""
        return self.n_busy >= self.quota.max_chunks

    def cap_on(self, place: Place) -> Cap | None:
        """The cap that keeps a job back; None where it has nothing ready or is merely behind other work.

        Call ``settle`` before.
        """
        if place.may_run:
            return Cap.MAX_CHUNKS if self.is_at_its_chunks else None
        if place.is_idle:
            return None
        return Cap.MAX_RUNNING_JOBS if self._n_held >= self.quota.max_running_jobs else Cap.MAX_ENQUEUED_TOKENS

    def add(self, place: Place) -> None:
        """Take a job in."""
        if place.is_admitted:
            self._hold(place.job.remaining_tokens, n=1)
            return
        heapq.heappush(self._line, place)
        if self._last_promised is not None and place < self._last_promised:
            self._is_out_of_turn = True

    def remove(self, place: Place) -> None:
        """A job ended, or may not run for now."""
        if place.may_run:
            self._hold(-place.job.remaining_tokens, n=-1)
            self._promised.pop(place.job.id, None)
        else:
            self._n_gone_in_line += 1
        place.is_gone = True
        if self._n_gone_in_line > len(self._line) // 2:
            self._line_up()

    def set_aside(self, place: Place) -> None:
        """A job has nothing that could run now: unless it is admitted, others may have the place promised to it."""
        place.is_idle = True
        if place.is_promised:
            place.is_promised = False
            self._promised.pop(place.job.id)
            self._hold(-place.job.remaining_tokens, n=-1)

    def take_up(self, place: Place) -> None:
        """A job that was set aside has something to run again."""
        place.is_idle = False
        if not place.is_admitted:
            self.add(place)

    def resize(self, place: Place, job: QueuedJob) -> None:
        """A job is the same but for its tokens."""
        if place.may_run:
            self._hold(job.remaining_tokens - place.job.remaining_tokens, n=0)
        place.job = job

    def admit(self, place: Place) -> None:
        """A job that was promised a place takes it, and keeps it."""
        self._promised.pop(place.job.id, None)
        place.is_admitted, place.is_promised = True, False

    def change_quota(self, quota: TenantQuota) -> None:
        """Another quota holds from now on: what was promised under the old one is promised anew."""
        self.quota = quota
        self._take_promises_back()

    def settle(self) -> list[Place]:
        """Promise the free places in the order of the line.

        Returns:
            Whoever was promised one.
        """
        promised = self._promise()
        if self._is_out_of_turn and self._line:
            self._take_promises_back()
            promised = self._promise()
        self._is_out_of_turn = False
        return promised

    def _promise(self) -> list[Place]:
        promised = []
        while self._line and (self._line[0].is_gone or self._fits(self._line[0])):
            place = heapq.heappop(self._line)
            if place.is_gone:
                self._n_gone_in_line -= 1
            else:
                place.is_promised = True
                self._promised[place.job.id] = self._last_promised = place
                self._hold(place.job.remaining_tokens, n=1)
                promised.append(place)
        return promised

    def _fits(self, place: Place) -> bool:
        if self._n_held == 0:
            return True
        has_place = self._n_held < self.quota.max_running_jobs
        return has_place and self._tokens_held + place.job.remaining_tokens <= self.quota.max_enqueued_tokens

    def _take_promises_back(self) -> None:
        for place in self._promised.values():
            place.is_promised = False
            self._hold(-place.job.remaining_tokens, n=-1)
            self._line.append(place)
        self._promised.clear()
        self._last_promised = None
        self._line_up()

    def _line_up(self) -> None:
        self._line = [place for place in self._line if not place.is_gone]
        self._n_gone_in_line = 0
        heapq.heapify(self._line)

    def _hold(self, tokens: int, *, n: int) -> None:
        self._n_held += n
        self._tokens_held += tokens
