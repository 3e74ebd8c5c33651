"""What is left to do of every job in seconds of a worker, and when each worker is free: where a forecast begins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.db.repositories.outlooks import ChunkInView, JobInView, Progress
from app.domain.forecast import Backlog, Work
from app.domain.tenant_places import Cap

LEAST_LEFT = 0.1
"""A chunk that runs longer than it should has about this share of its time still before it."""
SHORTEST_PROGRESS_S = 0.5
"""A job whose finished chunks took less says more about overheads than about its speed."""


def speeds_of(progress: Iterable[Progress]) -> dict[str, float]:
    """Estimated tokens in a second of a worker, of the jobs that have come far enough to say."""
    tokens: dict[str, float] = defaultdict(float)
    took_s: dict[str, float] = defaultdict(float)
    for each in progress:
        tokens[each.job_id] += each.tokens
        took_s[each.job_id] += each.took_s
    return {job_id: tokens[job_id] / s for job_id, s in took_s.items() if s >= SHORTEST_PROGRESS_S and tokens[job_id]}


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast chunks run, by what is known best: the job itself, its model, or what was assumed at its planning."""

    of_jobs: Mapping[str, float]
    """Measured tokens in a second of a worker."""
    of_models: Mapping[tuple[str, str, str], float]
    """The same, by model, version and pool."""
    n_workers: Callable[[JobInView], Mapping[str, int]]
    """The live workers that can take a job, by pool."""

    def known(self, job: JobInView) -> float | None:
        """The measured rate of a job: of its model it is the mean over the workers that can take it."""
        of_job = self.of_jobs.get(job.id)
        return self._of_model(job) if of_job is None else of_job

    def _of_model(self, job: JobInView) -> float | None:
        rates = [
            (rate, n_workers)
            for pool, n_workers in (self.n_workers(job) or {job.pool: 1}).items()
            if (rate := self.of_models.get((job.model or "", job.model_version or "", pool))) is not None
        ]
        n_measured = sum(n_workers for _, n_workers in rates)
        return sum(rate * n_workers for rate, n_workers in rates) / n_measured if rates else None

    def seconds(self, job: JobInView, tokens: float, planned_s: float) -> float:
        """What so many tokens of a job take, where ``planned_s`` was estimated when they were planned."""
        rate = self.known(job)
        return planned_s if rate is None else tokens / rate


class WorkPicture:
    """The jobs that may run, as their chunks stand."""

    def __init__(
        self,
        jobs: Sequence[JobInView],
        busy: Sequence[ChunkInView],
        *,
        progress: Iterable[Progress],
        rates: Rates,
        kept_back: Mapping[str, Cap],
        live_queues: Collection[str],
    ) -> None:
        self.jobs = jobs
        self.free_in_s: dict[str, float] = dict.fromkeys(live_queues, 0.0)
        """For each live worker's queue, when it will have done what it has."""
        self._rates = rates
        self._kept_back = kept_back
        self._by_id = {job.id: job for job in jobs}
        self._since_last_s = {(each.job_id, each.queue): each.since_last_s for each in progress}
        self._queue_ends_s: dict[str, float] = defaultdict(float)
        self._busy_until_s: dict[str, float] = {}
        self._running: set[str] = set()
        self._left_behind: dict[str, list[ChunkInView]] = defaultdict(list)
        for chunk in busy:
            # What a worker that is being drained runs comes to its end; what waits in its queue goes to others.
            if chunk.is_running or chunk.queue in self.free_in_s:
                self._queue_up(chunk)
            else:
                self._left_behind[chunk.job_id].append(chunk)

    def backlog(self, job: JobInView) -> Backlog:
        """What is left to do of a job."""
        return Backlog(
            job_id=job.id,
            tenant_id=job.tenant_id,
            priority=job.priority,
            deadline_at=job.deadline_at,
            created_at=job.created_at,
            ready=self._ready(job),
            later=Work(job.n_later, self._rates.seconds(job, job.later_tokens, job.later_planned_s)),
            later_in_s=max(0.0, job.later_in_s),
            busy_until_s=self._busy_until_s.get(job.id, 0.0),
            is_running=job.id in self._running,
            is_kept_back=self._kept_back.get(job.id, Cap.MAX_CHUNKS) is not Cap.MAX_CHUNKS,
            is_measured=self._rates.known(job) is not None,
        )

    def _queue_up(self, chunk: ChunkInView) -> None:
        """A chunk is done behind those before it in its queue."""
        job = self._by_id.get(chunk.job_id)
        cost_s = chunk.planned_s if job is None else self._rates.seconds(job, chunk.tokens, chunk.planned_s)
        until_s = self._queue_ends_s[chunk.queue] + max(cost_s - self._had_s(chunk), cost_s * LEAST_LEFT)
        self._queue_ends_s[chunk.queue] = until_s
        self._busy_until_s[chunk.job_id] = max(self._busy_until_s.get(chunk.job_id, 0.0), until_s)
        if chunk.queue in self.free_in_s:
            self.free_in_s[chunk.queue] = until_s
        if chunk.is_running:
            self._running.add(chunk.job_id)

    def _had_s(self, chunk: ChunkInView) -> float:
        """For how long a chunk has had its worker: one that was claimed ahead has it once the one before is done."""
        if chunk.queue in self._queue_ends_s:
            return 0.0
        return min(chunk.elapsed_s, self._since_last_s.get((chunk.job_id, chunk.queue), chunk.elapsed_s))

    def _ready(self, job: JobInView) -> Work:
        """What may be granted now, with what dead workers left behind: it is taken back soon."""
        left_behind = self._left_behind.get(job.id, ())
        seconds = self._rates.seconds(job, job.ready_tokens, job.ready_planned_s)
        seconds += sum(self._rates.seconds(job, chunk.tokens, chunk.planned_s) for chunk in left_behind)
        return Work(job.n_ready + len(left_behind), seconds)
