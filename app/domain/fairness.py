"""Who runs next: pure arithmetic over what waits, no clock and no database.

Two levels of stride scheduling, by estimated device seconds: classes share 16 : 4 : 1 while all have work, tenants
share their class evenly. Inside a tenant the earliest deadline goes first, then the oldest job. Whoever was idle
resumes at the present, so idleness earns no credit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.jobs import Priority

CLASS_WEIGHTS = {Priority.URGENT: 16.0, Priority.STANDARD: 4.0, Priority.BACKGROUND: 1.0}


@dataclass(slots=True)
class Candidate:
    """A job that has chunks ready to run."""

    job_id: str
    tenant_id: str
    priority: Priority
    deadline_at: datetime
    created_at: datetime
    n_ready: int
    """Chunks that could be granted now; counted down as slots are given."""
    mean_chunk_s: float
    """Estimated device seconds of one of them."""


@dataclass(slots=True)
class _Clock:
    """Virtual time of the members of one level: who has the least goes next."""

    spent: dict[str, float] = field(default_factory=dict)
    now: float = 0.0

    def pick(self, members: Sequence[str]) -> str:
        for member in members:
            self.spent[member] = max(self.spent.get(member, self.now), self.now)
        chosen = min(members, key=lambda member: (self.spent[member], member))
        self.now = self.spent[chosen]
        return chosen

    def charge(self, member: str, amount: float) -> None:
        self.spent[member] += amount

    def settle(self) -> None:
        """Nobody waits any more: no member owes another anything."""
        self.now = max(self.spent.values(), default=self.now)
        self.spent.clear()

    def forget(self) -> None:
        """Drop members that stand at or before the present: they would resume there anyway."""
        self.spent = {member: spent for member, spent in self.spent.items() if spent > self.now}


@dataclass(slots=True)
class FairShare:
    """What was given so far in one pool. Losing it (a new dispatcher) only forgets the debts of a moment."""

    _classes: _Clock = field(default_factory=_Clock)
    _tenants: dict[Priority, _Clock] = field(default_factory=dict)

    def allot(self, candidates: Sequence[Candidate], n_slots: int) -> list[Candidate]:
        """Give slots one by one.

        Returns:
            The job of each slot, in the order given; fewer where nothing more is ready.
        """
        given: list[Candidate] = []
        ready = [candidate for candidate in candidates if candidate.n_ready > 0]
        while ready and len(given) < n_slots:
            chosen = self._next(ready)
            chosen.n_ready -= 1
            given.append(chosen)
            if chosen.n_ready == 0:
                ready.remove(chosen)
        self._tidy({candidate.priority for candidate in ready})
        return given

    def _tidy(self, waiting: set[Priority]) -> None:
        """Keep only what somebody who waits could still claim."""
        self._classes.forget() if waiting else self._classes.settle()
        for priority, tenants in self._tenants.items():
            tenants.forget() if priority in waiting else tenants.settle()

    def _next(self, ready: Sequence[Candidate]) -> Candidate:
        priority = Priority(self._classes.pick(sorted({candidate.priority for candidate in ready})))
        of_class = [candidate for candidate in ready if candidate.priority is priority]
        tenants = self._tenants.setdefault(priority, _Clock())
        tenant = tenants.pick(sorted({candidate.tenant_id for candidate in of_class}))
        of_tenant = [candidate for candidate in of_class if candidate.tenant_id == tenant]
        chosen = min(of_tenant, key=lambda job: (job.deadline_at, job.created_at, job.job_id))
        cost_s = max(chosen.mean_chunk_s, 0.001)
        self._classes.charge(priority, cost_s / CLASS_WEIGHTS[priority])
        tenants.charge(tenant, cost_s)
        return chosen
