"""Whose turn it is in one pool: shares of device seconds, pure arithmetic without clock or database.

Two levels of start-time fair queueing: the classes share 16 : 4 : 1 while all have work, so that each has its reserved
floor and takes what the others leave; the tenants of a class share it by their weights. Whoever was idle, or kept back
by a cap, resumes at the present, so that idleness earns no credit; what was used in advance stays owed.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.domain.jobs import Priority

CLASS_WEIGHTS = {Priority.URGENT: 16.0, Priority.STANDARD: 4.0, Priority.BACKGROUND: 1.0}
MIN_COST_S = 0.001
"""A turn always costs something: who goes first among those who cost nothing would else go first for ever."""
_FEW = 16


@dataclass(slots=True)
class VirtualTime:
    """What the members of one level have had, in seconds over weight: who has the least goes next.

    Every step costs the logarithm of the number of members.
    """

    now: float = 0.0
    _spent: dict[str, float] = field(default_factory=dict)
    _active: set[str] = field(default_factory=set)
    _heap: list[tuple[float, str]] = field(default_factory=list)

    def __len__(self) -> int:
        """Members that are remembered: those with work, and those who left in debt."""
        return len(self._spent)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has work."""
        return not self._active

    def join(self, member: str) -> None:
        """``member`` has work from now on; without effect where it has already."""
        if member not in self._active:
            self._active.add(member)
            self._set(member, max(self._spent.get(member, self.now), self.now))

    def leave(self, member: str) -> None:
        """``member`` has no work that may run; without effect where it had none."""
        if member not in self._active:
            return
        self._active.discard(member)
        if not self._active:
            self._settle()
        elif self._spent[member] <= self.now:
            del self._spent[member]
        elif len(self._spent) > 2 * len(self._active) + _FEW:
            self._forget()

    def first(self) -> str | None:
        """The member whose turn it is; None where nobody has work."""
        while self._heap:
            spent, member = self._heap[0]
            if member in self._active and self._spent[member] == spent:
                self.now = max(self.now, spent)
                return member
            heapq.heappop(self._heap)
        return None

    def ahead(self) -> dict[str, float]:
        """By how much each member has had more than whoever is next."""
        return {member: spent - self.now for member, spent in self._spent.items() if spent > self.now}

    def charge(self, member: str, amount: float) -> None:
        """Book what ``member`` used; a negative amount gives back what was booked too much."""
        spent = self._spent.get(member, self.now) + amount
        if member in self._active or spent > self.now:
            self._set(member, spent)
        else:
            self._spent.pop(member, None)

    def _set(self, member: str, spent: float) -> None:
        self._spent[member] = spent
        if member in self._active:
            heapq.heappush(self._heap, (spent, member))

    def _settle(self) -> None:
        """Nobody has work any more: no member owes another anything."""
        self.now = max(self._spent.values(), default=self.now)
        self._spent.clear()
        self._heap.clear()

    def _forget(self) -> None:
        """Drop those who left and stand at or before the present: they would resume there anyway."""
        self._spent = {
            member: spent for member, spent in self._spent.items() if member in self._active or spent > self.now
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """Who has had more than whoever is next, and by how much, in seconds over weight."""

    classes: Mapping[str, float] = field(default_factory=dict)
    tenants: Mapping[tuple[Priority, str], float] = field(default_factory=dict)


@dataclass(slots=True)
class FairShare:
    """Whose turn it is in one pool.

    Losing it, as a new dispatcher does, only forgets the debts of a moment.
    """

    weight_of: Callable[[str], float] = lambda _tenant_id: 1.0
    """The weight of a tenant among the others, as it is now."""
    _classes: VirtualTime = field(default_factory=VirtualTime)
    _tenants: dict[Priority, VirtualTime] = field(default_factory=lambda: defaultdict(VirtualTime))

    def join(self, priority: Priority, tenant_id: str) -> None:
        """A tenant has work in a class that may run now."""
        self._tenants[priority].join(tenant_id)
        self._classes.join(priority)

    def leave(self, priority: Priority, tenant_id: str) -> None:
        """A tenant has no work in a class that may run now."""
        tenants = self._tenants[priority]
        tenants.leave(tenant_id)
        if tenants.is_idle:
            self._classes.leave(priority)

    def first(self) -> tuple[Priority, str] | None:
        """The class and the tenant whose turn it is; None where nobody has work."""
        chosen = self._classes.first()
        if chosen is None:
            return None
        priority = Priority(chosen)
        tenant_id = self._tenants[priority].first()
        return None if tenant_id is None else (priority, tenant_id)

    def standing(self) -> Standing:
        """How the classes and tenants stand to each other now."""
        tenants = {
            (priority, tenant_id): ahead
            for priority, level in self._tenants.items()
            for tenant_id, ahead in level.ahead().items()
        }
        return Standing(self._classes.ahead(), tenants)

    def charge(self, priority: Priority, tenant_id: str, cost_s: float) -> None:
        """Book the estimated device seconds of one chunk."""
        self._book(priority, tenant_id, max(cost_s, MIN_COST_S))

    def correct(self, priority: Priority, tenant_id: str, *, charged_s: float, used_s: float) -> None:
        """Replace what was booked for a chunk by the device seconds that it really used; zero where it never ran."""
        used_s = max(used_s, MIN_COST_S) if used_s else 0.0
        self._book(priority, tenant_id, used_s - max(charged_s, MIN_COST_S))

    def _book(self, priority: Priority, tenant_id: str, seconds: float) -> None:
        self._classes.charge(priority, seconds / CLASS_WEIGHTS[priority])
        self._tenants[priority].charge(tenant_id, seconds / self.weight_of(tenant_id))
