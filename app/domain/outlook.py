"""Why a live job waits and when it will end, put together from its row, its chunks and the outlook of its pool. Pure.

The leading dispatcher takes the outlook of each pool every second or so and writes it down as one row. What follows
from the job itself (paused, held, a pause before it is tried again) is not in it: that is read with the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from app.domain.jobs import Eta, Job, Waiting
from app.domain.states import RUNNABLE_JOB_STATES, JobState
from app.domain.tenant_places import Cap

BELIEVED_FOR_S = 30.0
"""An outlook that is older says nothing any more: the dispatcher is dead or cut off."""


class WaitingReason(StrEnum):
    """Why a job does not run."""

    SCHEDULED_LATER = "scheduled_later"  # its time has not come; jobs are made when it has, so none is in this case
    TENANT_CONCURRENCY = "tenant_concurrency"  # its tenant has as many jobs or chunks running as it may
    TENANT_TOKENS = "tenant_tokens"  # its tenant has as many tokens admitted as it may
    BEHIND_OTHER_WORK = "behind_other_work"  # others come first
    NO_WORKER_FOR_MODEL = "no_worker_for_model"  # no live worker has its model
    HELD_FOR_REVIEW = "held_for_review"  # the sample gate stopped it
    PAUSED = "paused"  # the tenant paused it
    RETRY_BACKOFF = "retry_backoff"  # all that is left of it failed, and pauses before it is tried again
    BROKER_UNAVAILABLE = "broker_unavailable"  # the dispatcher cannot hand work out


_SET_ASIDE = {
    JobState.PAUSED: (WaitingReason.PAUSED, "Paused by the tenant; it goes on when it is resumed."),
    JobState.HELD: (WaitingReason.HELD_FOR_REVIEW, "Held by its sample gate; it goes on when it is released."),
}


@dataclass(frozen=True, slots=True)
class QuotaHit:
    """The quota of its tenant that keeps a job back, and what it is set to."""

    cap: Cap
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutlook:
    """What is expected of one job."""

    position: int | None
    starts_in_s: float
    eta: Eta
    n_workers: int
    """Live workers that can take it, in whichever of its model's pools."""
    kept_back: QuotaHit | None = None


@dataclass(frozen=True, slots=True)
class PoolOutlook:
    """What was last worked out about a pool."""

    pool: str
    n_workers: int
    n_waiting: int
    """Jobs of which nothing runs."""
    backlog_s: float
    """Seconds that one worker would need for its part of all that is left; what runs in several pools is shared among
    their workers."""
    broker_away_s: float | None
    """For how long the dispatcher could not publish; None where it could."""
    jobs: Mapping[str, JobOutlook | None]
    """The jobs that are counted here; None for those that no live worker can take, in any pool."""

    def to_json(self) -> dict[str, Any]:
        """What is stored; short, because there may be ten thousand jobs."""
        return {
            "workers": self.n_workers,
            "waiting": self.n_waiting,
            "backlog_s": round(self.backlog_s, 3),
            "broker_away_s": self.broker_away_s,
            "jobs": {job_id: outlook and _to_list(outlook) for job_id, outlook in self.jobs.items()},
        }

    @classmethod
    def from_json(cls, pool: str, stored: Mapping[str, Any]) -> PoolOutlook:
        """What ``to_json`` made."""
        return cls(
            pool=pool,
            n_workers=stored["workers"],
            n_waiting=stored["waiting"],
            backlog_s=stored["backlog_s"],
            broker_away_s=stored["broker_away_s"],
            jobs={job_id: values and _from_list(values) for job_id, values in stored["jobs"].items()},
        )


@dataclass(frozen=True, slots=True)
class AgedOutlook:
    """An outlook, and how long ago it was taken."""

    outlook: PoolOutlook
    age_s: float

    @property
    def is_believed(self) -> bool:
        """Whether it still says something."""
        return self.age_s <= BELIEVED_FOR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """The live chunks of a job, counted when it is shown."""

    n_running: int = 0
    n_granted: int = 0
    n_ready: int = 0
    n_later: int = 0
    """Pending, and to be tried again at some later time."""
    next_try_at: datetime | None = None
    next_try_in_s: float = 0.0


def waiting_by_state(state: JobState) -> Waiting | None:
    """Why a job waits that was set aside; None in every other state."""
    return _waiting(*_SET_ASIDE[state]) if state in _SET_ASIDE else None


def waiting_of(job: Job, pulse: Pulse, aged: AgedOutlook | None) -> Waiting | None:
    """Why a job waits; None for one that runs, ends, has ended, or is being checked.

    Args:
        aged: the outlook of its pool; of any pool for a job that has none yet.
    """
    if job.state in _SET_ASIDE:
        return waiting_by_state(job.state)
    if job.stop_reason is not None or job.state not in {JobState.VALIDATING, *RUNNABLE_JOB_STATES} or pulse.n_running:
        return None
    if aged is not None and aged.is_believed and aged.outlook.broker_away_s is not None:
        return _waiting(WaitingReason.BROKER_UNAVAILABLE, _broker_detail(aged.outlook.broker_away_s + aged.age_s))
    if pulse.n_granted or pulse.n_ready:
        return _waiting_for_a_worker(job, aged)
    return _waiting(WaitingReason.RETRY_BACKOFF, _backoff_detail(pulse)) if pulse.n_later else None


def eta_of(job: Job, aged: AgedOutlook | None) -> Eta | None:
    """When a job is expected to end, counted from now; None where that cannot be said."""
    if aged is None or not aged.is_believed or aged.outlook.broker_away_s is not None:
        return None
    known = aged.outlook.jobs.get(job.id)
    if known is None or job.state not in RUNNABLE_JOB_STATES or job.stop_reason is not None:
        return None
    passed_s = aged.age_s
    eta = known.eta
    return Eta(
        seconds=round(max(0.0, eta.seconds - passed_s), 1),
        low=round(max(0.0, eta.low - passed_s), 1),
        high=round(max(0.0, eta.high - passed_s), 1),
    )


def _waiting_for_a_worker(job: Job, aged: AgedOutlook | None) -> Waiting:
    if aged is None or not aged.is_believed:
        return _waiting(WaitingReason.BEHIND_OTHER_WORK, _unknown_detail(aged))
    outlook = aged.outlook
    known = outlook.jobs.get(job.id)
    if known is None and (job.id in outlook.jobs or outlook.n_workers == 0):
        return _waiting(WaitingReason.NO_WORKER_FOR_MODEL, _no_worker_detail(job))
    if known is None:
        detail = f"It is new among the {outlook.n_waiting} that wait in pool {outlook.pool}; its place is known soon."
        return _waiting(WaitingReason.BEHIND_OTHER_WORK, detail)
    if known.kept_back is not None:
        hit = known.kept_back
        return _waiting(WaitingReason(hit.cap.waiting_reason), _quota_detail(hit), known.position)
    starts_in_s = max(0.0, known.starts_in_s - aged.age_s)
    detail = _order_detail(known.n_workers, known.position or 1, starts_in_s)
    return _waiting(WaitingReason.BEHIND_OTHER_WORK, detail, known.position)


def _waiting(reason: WaitingReason, detail: str, position: int | None = None) -> Waiting:
    return Waiting(reason=reason, detail=detail, position=position)


def _broker_detail(away_s: float) -> str:
    return f"The message broker takes no work, for {duration(away_s)} now. The job is safe and goes on when it is back."


def _backoff_detail(pulse: Pulse) -> str:
    at = "" if pulse.next_try_at is None else f" at {pulse.next_try_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return (
        f"What is left of it failed in a way that may pass; it is tried again{at}, in {duration(pulse.next_try_in_s)}."
    )


def _unknown_detail(aged: AgedOutlook | None) -> str:
    since = "has not reported yet" if aged is None else f"has not reported for {duration(aged.age_s)}"
    return f"It waits to be handed to a worker; the dispatcher {since}, so its place is not known."


def _no_worker_detail(job: Job) -> str:
    what = f"model {job.model}" if job.model else "the model of this job"
    return f"No worker that can run {what} takes work now; it starts when one is back."


def _quota_detail(hit: QuotaHit) -> str:
    if hit.cap is Cap.MAX_CHUNKS:
        chunks = count_of(hit.limit, "chunk")
        return f"Workers have {chunks} of this tenant, the most that its quota {hit.cap} allows at once."
    if hit.cap is Cap.MAX_RUNNING_JOBS:
        jobs = count_of(hit.limit, "job")
        return (
            f"The tenant runs {jobs}, the most that its quota {hit.cap} allows at once; this one is admitted when one "
            "of them ends."
        )
    tokens = count_of(hit.limit, "token")
    return (
        f"With this job the tenant's admitted jobs would hold more than the {tokens} that its quota {hit.cap} allows; "
        "it is admitted when enough of them have run."
    )


def _order_detail(n_workers: int, position: int, starts_in_s: float) -> str:
    n_ahead = position - 1
    start = "starts" if n_ahead == 1 else "start"
    ahead = f"{count_of(n_ahead, 'job')} {start} before it" if n_ahead else "It is the next to start"
    workers = count_of(n_workers, "worker")
    return f"{ahead}; {workers} can run it, and its turn comes in about {duration(starts_in_s)}."


def count_of(number: int, noun: str) -> str:
    """A number of things: ``1 job``, ``2,000 jobs``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A length of time for people, in its largest fitting unit: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 99.5 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _to_list(outlook: JobOutlook) -> list[Any]:
    eta, hit = outlook.eta, outlook.kept_back
    numbers = [outlook.starts_in_s, eta.seconds, eta.low, eta.high]
    short = [outlook.position, *(round(number, 1) for number in numbers), outlook.n_workers]
    return short if hit is None else [*short, hit.cap, hit.limit]


def _from_list(values: list[Any]) -> JobOutlook:
    position, starts_in_s, seconds, low, high, n_workers, *hit = values
    return JobOutlook(
        position=position,
        starts_in_s=starts_in_s,
        eta=Eta(seconds=seconds, low=low, high=high),
        n_workers=n_workers,
        kept_back=QuotaHit(Cap(hit[0]), hit[1]) if hit else None,
    )
