"""Run one chunk: claim it, run its items, store the parts, and commit the outcome under the lease.

Nothing here raises for a reason that lies in the data. What this worker cannot finish is handed back, or found by the
dispatcher when the lease runs out.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from enum import StrEnum

import structlog
from sqlalchemy import func

from app.db.repositories.chunks import Chunks
from app.db.repositories.jobs import Jobs
from app.db.repositories.workers import Workers
from app.domain.chunks import Chunk, ItemSpan, part_of
from app.domain.input_lines import ItemDefaults
from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome
from app.domain.jobs import Job
from app.domain.result_lines import LineContext
from app.domain.states import RUNNABLE_JOB_STATES, ChunkState, JobState
from app.domain.stops import Stop
from app.errors import DatabaseUnavailable, DependencyFailed, LeaseLost
from app.observability.tracing import span, stage
from app.ports import DeathNotes, ItemRunner, LastWords, RunRequest, RunStats
from app.services.chunk_commit import ChunkCommit
from app.services.chunk_input import ReadItem, chunk_spans, read_chunk_items
from app.services.chunk_results import ChunkResults
from app.services.lease_keeper import LeaseKeeper
from app.services.split_chunk import split_chunk
from app.wiring import Wiring

log = structlog.get_logger(__name__)

HAND_BACK_DELAY_S = 2.0

_CONVICTIONS = {
    ItemErrorCode.WORKER_CRASH: "The worker died {n} times while this item ran alone.",
    ItemErrorCode.ITEM_TIMEOUT: "The model hung {n} times on this item alone, and its worker had to be ended.",
    ItemErrorCode.OUT_OF_MEMORY: "The worker ran out of memory {n} times on this item alone.",
}


class Ran(StrEnum):
    """How the run of a chunk ended."""

    DONE = "done"
    NOT_OURS = "not_ours"
    STOPPED = "stopped"  # its job was stopped; nothing of the chunk ran
    CUT_SHORT = "cut_short"  # what ran is kept, the rest is a chunk of its own
    SPLIT = "split"
    HANDED_BACK = "handed_back"
    LEASE_LOST = "lease_lost"


def run_chunk(
    *,
    wiring: Wiring,
    runner: ItemRunner,
    chunk_id: int,
    queue: str,
    holder: str,
    is_leaving: Callable[[], bool] = lambda: False,
    death_notes: DeathNotes | None = None,
    is_ahead: bool = False,
    when_read: Callable[[], None] = lambda: None,
) -> Ran:
    """Run a chunk that was granted to ``queue``.

    Args:
        holder: this worker process's incarnation; another one on the same queue takes over what this leaves.
        is_leaving: whether this worker process was told to end; then what is not yet run goes to others.
        death_notes: what is known of the process that had this device before.
        is_ahead: whether another chunk may still be on the device; what is noted there is that one's until then.
        when_read: called as soon as all items are read, from another thread.
    """
    last_words = death_notes.last_words(chunk_id) if death_notes else None
    token = secrets.token_hex(8)
    try:
        claimed = _claim(wiring, chunk_id, queue=queue, holder=holder, token=token, last_words=last_words)
    except DatabaseUnavailable:
        log.warning("chunk_claim_failed", chunk_id=chunk_id)
        return Ran.HANDED_BACK
    if claimed is None:
        return Ran.NOT_OURS
    if death_notes and not is_ahead:
        death_notes.begin(chunk_id)
    job, chunk = claimed
    attempt = _Attempt(wiring, runner, job, chunk, token, is_leaving, last_words, death_notes, when_read)
    ids = {"tenant_id": job.tenant_id, "job_id": job.id, "chunk_id": chunk.id, "attempt": chunk.attempt}
    with (
        structlog.contextvars.bound_contextvars(**ids),
        span("chunk", parent=job.traceparent, queue=queue, model=job.model, n_items=chunk.n_items) as running,
    ):
        ran = _run(attempt)
        running.note(ran=ran)
        return ran


def _run(attempt: _Attempt) -> Ran:
    try:
        return attempt.run()
    except LeaseLost:
        log.warning("chunk_lease_lost")
        return Ran.LEASE_LOST
    except DependencyFailed as error:
        return attempt.hand_back(error, count_as_death=False)
    except Exception as error:  # noqa: BLE001 - see the line below
        # Whatever else an engine raises counts as one of its deaths on this chunk, so that the item is found.
        return attempt.hand_back(error, count_as_death=True)


def _claim(
    wiring: Wiring, chunk_id: int, *, queue: str, holder: str, token: str, last_words: LastWords | None
) -> tuple[Job, Chunk] | None:
    with wiring.database.begin() as connection:
        chunks, jobs = Chunks(connection), Jobs(connection)
        Workers(connection).took_message(queue)
        found = chunks.get(chunk_id)
        if found is None:
            return None
        job = jobs.lock(found.job_id)
        chunk = chunks.claim(
            chunk_id,
            queue=queue,
            holder=holder,
            token=token,
            lease_s=wiring.settings.lease_s,
            last_words=last_words,
        )
        if chunk is None:
            return None
        if job.state is JobState.QUEUED:
            job = jobs.change_state(job, JobState.RUNNING, started_at=job.started_at or func.now()) or job
        return job, chunk


class _Attempt:
    """One attempt on one chunk, under its lease."""

    def __init__(
        self,
        wiring: Wiring,
        runner: ItemRunner,
        job: Job,
        chunk: Chunk,
        token: str,
        is_leaving: Callable[[], bool],
        last_words: LastWords | None,
        death_notes: DeathNotes | None,
        when_read: Callable[[], None],
    ) -> None:
        self._wiring = wiring
        self._settings = wiring.settings
        self._runner = runner
        self._job = job
        self._chunk = chunk
        self._token = token
        self._is_leaving = is_leaving
        self._suspects = last_words.indexes if last_words else frozenset()
        self._death_notes = death_notes
        self._when_read = when_read
        self._refusal: str | None = None
        self._started_s = time.monotonic()
        self._commit = ChunkCommit(wiring.database, job=job, chunk=chunk, token=token, lease_s=wiring.settings.lease_s)

    def run(self) -> Ran:
        if self._job.stop_reason is not None or self._job.state not in RUNNABLE_JOB_STATES:
            return self._leave_untouched()
        lease = LeaseKeeper(
            self._wiring.database,
            chunk_id=self._chunk.id,
            token=self._token,
            lease_s=self._settings.lease_s,
            is_leaving=self._is_leaving,
        )
        with lease:
            if self._is_deadly and self._chunk.n_items > 1:
                return self._split()
            return self._compute(lease)

    def hand_back(self, error: Exception, *, count_as_death: bool) -> Ran:
        """Return the chunk to the dispatcher; where even that fails, its lease will run out."""
        say = log.error if count_as_death else log.warning  # an error that has no name goes to Sentry
        say("chunk_handed_back", error=type(error).__name__, exc_info=error)
        try:
            self._commit.handed_back(
                delay_s=HAND_BACK_DELAY_S,
                count_as_death=count_as_death,
                death_cause=ItemErrorCode.OUT_OF_MEMORY if isinstance(error, MemoryError) else None,
            )
        except DatabaseUnavailable:
            log.warning("chunk_left_to_its_lease")
        return Ran.HANDED_BACK

    @property
    def _is_deadly(self) -> bool:
        return self._chunk.worker_deaths >= self._settings.max_worker_deaths

    def _compute(self, lease: LeaseKeeper) -> Ran:
        context = LineContext(self._job.dialect, self._job.id, self._job.model_version)
        results = ChunkResults(context, self._job.max_attempts)
        stats = RunStats()
        with closing(self._outcomes(results, stats, lease)) as outcomes:
            for outcome in outcomes:
                results.add(outcome, is_final=self._is_final(outcome))
                self._heed(outcome, lease)
        stop = lease.stop
        if stop is Stop.LEASE_LOST:
            return Ran.LEASE_LOST
        if results.n_items == self._chunk.n_items:
            self._finish(results, stats)
            return Ran.DONE
        if stop is None:
            raise RuntimeError(f"the engine gave outcomes for {results.n_items} of {self._chunk.n_items} items")
        log.info("chunk_stopped", stop=stop, n_done=results.n_items, n_items=self._chunk.n_items)
        if not results.n_items:
            return self._leave_untouched()
        self._finish(results, stats, rest=results.without_outcome(self._spans()))
        return Ran.CUT_SHORT

    def _is_final(self, outcome: ItemOutcome) -> bool:
        """Whether trying the item again is in vain, whatever it failed of."""
        refused = self._job.refusal is not None or (isinstance(outcome, ItemFailed) and outcome.stops_job)
        return self._is_deadly or refused

    def _heed(self, outcome: ItemOutcome, lease: LeaseKeeper) -> None:
        """Where the whole job is refused, stop asking; the commit makes that known to its other chunks."""
        if isinstance(outcome, ItemFailed) and outcome.stops_job and self._refusal is None:
            self._refusal = outcome.message
            log.error("job_refused", reason=outcome.message)
            lease.give_up()

    def _on_turn(self) -> None:
        self._started_s = time.monotonic()
        if self._death_notes:
            self._death_notes.begin(self._chunk.id)

    def _finish(self, results: ChunkResults, stats: RunStats, *, rest: Sequence[ItemSpan] = ()) -> None:
        run_s = time.monotonic() - self._started_s
        prefix = f"parts/{self._job.tenant_id}/{self._job.id}/{self._chunk.id}-{self._chunk.attempt}-{self._token}"
        with stage("upload"):
            parts = results.upload(self._wiring.storage, key_prefix=prefix)
        self._commit.done(
            outcome=results.outcome(device_s=stats.device_s, n_left=len(rest)),
            parts=parts,
            recovery=results.recovery_chunk(self._chunk),
            rest=part_of(self._chunk, rest, worker_deaths=self._chunk.worker_deaths) if rest else None,
            run_s=run_s,
            refusal=self._refusal,
        )
        log.info("chunk_done", run_s=round(run_s, 3), device_s=round(stats.device_s, 3), n_items=self._chunk.n_items)

    def _outcomes(
        self, results: ChunkResults, stats: RunStats, lease: LeaseKeeper
    ) -> Generator[ItemOutcome, None, None]:
        """Outcomes of items that cannot run, and of those the engine ran."""
        if self._is_deadly:
            yield from self._convicted(results)
            return
        if self._job.refusal is not None:
            yield from self._all_failed(results, ItemErrorCode.UPSTREAM_UNAVAILABLE, self._job.refusal)
            return
        refused: list[ItemFailed] = []
        runnable = self._runnable(results, refused)
        if self._job.model is None or self._job.model_version is None:
            for item in runnable:  # without a model every item is refused as it is read
                yield ItemFailed(item.index, ItemErrorCode.MODEL_NOT_FOUND, "The job has no usable model.")
        else:
            request = RunRequest(
                endpoint=self._job.endpoint,
                model=self._job.model,
                version=self._job.model_version,
                items=runnable,
                should_stop=lease.should_stop,
                stats=stats,
                on_oversize=self._job.on_oversize,
                item_timeout_s=self._job.item_timeout_s,
                on_turn=self._on_turn,
            )
            yield from self._runner.run(request)
        yield from refused

    def _runnable(self, results: ChunkResults, refused: list[ItemFailed]) -> Iterator[InputItem]:
        with stage("read"):
            for read in self._items():
                results.expect(read)
                if isinstance(read.item, ItemFailed):
                    refused.append(read.item)
                else:
                    yield read.item
        self._when_read()

    def _convicted(self, results: ChunkResults) -> Iterator[ItemOutcome]:
        """The one item on which workers died again and again."""
        code = ItemErrorCode(self._chunk.death_cause or ItemErrorCode.WORKER_CRASH)
        message = _CONVICTIONS[code].format(n=self._chunk.worker_deaths)
        yield from self._all_failed(results, code, message)

    def _all_failed(self, results: ChunkResults, code: ItemErrorCode, message: str) -> Iterator[ItemOutcome]:
        for read in self._items():
            results.expect(read)
            yield ItemFailed(read.span.index, code, message)

    def _items(self) -> Iterator[ReadItem]:
        defaults = ItemDefaults(
            model=self._job.model,
            parameters=self._job.parameters,
            endpoint=self._job.endpoint,
            known_models=frozenset(self._wiring.models),
            dialect=self._job.dialect,
            api_version=self._job.api_version,
        )
        return read_chunk_items(
            storage=self._wiring.storage,
            input_key=self._job.input_key,
            chunk=self._chunk,
            defaults=defaults,
            max_line_bytes=self._settings.max_line_bytes,
        )

    def _split(self) -> Ran:
        new = split_chunk(
            storage=self._wiring.storage,
            input_key=self._job.input_key,
            chunk=self._chunk,
            max_line_bytes=self._settings.max_line_bytes,
            worker_deaths=self._settings.max_worker_deaths - 1,
            suspects=self._suspects,
        )
        self._commit.split(new)
        log.warning("chunk_split", worker_deaths=self._chunk.worker_deaths, n_items=self._chunk.n_items)
        return Ran.SPLIT

    def _leave_untouched(self) -> Ran:
        """Nothing ran: the job was stopped or set aside, or this worker has to leave."""
        return Ran.HANDED_BACK if self._commit.untouched() is ChunkState.PENDING else Ran.STOPPED

    def _spans(self) -> list[ItemSpan]:
        return chunk_spans(
            storage=self._wiring.storage,
            input_key=self._job.input_key,
            chunk=self._chunk,
            max_line_bytes=self._settings.max_line_bytes,
        )
