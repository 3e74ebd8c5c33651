"""Say of live jobs why they wait and when they will end."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from app.db.repositories.outlooks import Outlooks
from app.domain.jobs import JobDetails
from app.domain.outlook import AgedOutlook, PoolOutlook, Pulse, eta_of, waiting_of
from app.domain.states import RUNNABLE_JOB_STATES

KEPT_FOR_S = 1.0


@dataclass(frozen=True, slots=True)
class _Known:
    """The outlooks as they were read."""

    taken: Mapping[str, object]
    """When each of them was taken, by the database's clock."""
    outlooks: Mapping[str, PoolOutlook]
    ages_s: Mapping[str, float]
    read_at_s: float

    def aged(self) -> dict[str, AgedOutlook]:
        since_s = time.monotonic() - self.read_at_s
        return {pool: AgedOutlook(outlook, self.ages_s[pool] + since_s) for pool, outlook in self.outlooks.items()}


@dataclass(slots=True)
class KnownOutlooks:
    """What a process knows of the outlooks: read at most once a second, however often it is asked. Thread-safe."""

    _known: _Known | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, connection: Connection) -> dict[str, AgedOutlook]:
        """The outlook of each pool, with its age."""
        with self._lock:
            if self._known is None or time.monotonic() - self._known.read_at_s >= KEPT_FOR_S:
                self._known = self._read_anew(Outlooks(connection))
            return self._known.aged()

    def _read_anew(self, stored: Outlooks) -> _Known:
        ages = stored.ages()
        known = self._known or _Known({}, {}, {}, 0.0)
        taken = {pool: taken_at for pool, (taken_at, _) in ages.items()}
        same = {pool: known.outlooks[pool] for pool in taken if known.taken.get(pool) == taken[pool]}
        fresh = stored.read(taken.keys() - same.keys()) if len(same) < len(taken) else {}
        outlooks = {**same, **fresh}
        return _Known(taken, outlooks, {pool: ages[pool][1] for pool in outlooks}, time.monotonic())


def explain_waiting(connection: Connection, known: KnownOutlooks, details: Sequence[JobDetails]) -> list[JobDetails]:
    """Add ``waiting`` and ``eta`` to jobs, in their order."""
    may_run = [each.job.id for each in details if each.job.state in RUNNABLE_JOB_STATES]
    pulses = Outlooks(connection).pulses(may_run) if may_run else {}
    outlooks = known.read(connection) if any(each.job.final is None for each in details) else {}
    return [_explained(each, pulses.get(each.job.id, Pulse()), outlooks) for each in details]


def _explained(details: JobDetails, pulse: Pulse, outlooks: Mapping[str, AgedOutlook]) -> JobDetails:
    job = details.job
    aged = outlooks.get(job.pool) if job.pool is not None else _newest(outlooks.values())
    return dataclasses.replace(details, waiting=waiting_of(job, pulse, aged), eta=eta_of(job, aged))


def _newest(outlooks: Iterable[AgedOutlook]) -> AgedOutlook | None:
    """For a job without a pool yet: whether the broker answers is the same for all."""
    return min(outlooks, key=lambda aged: aged.age_s, default=None)
