"""The writes that end an attempt on a chunk: each one transaction, each guarded by the lease token.

Where the database fails in the middle of a commit its outcome is unknown: it is read again before another try.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from app.db.notify import notify
from app.db.repositories.chunks import Chunks
from app.db.repositories.jobs import Jobs
from app.db.repositories.outcomes import Outcomes
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.domain.chunks import Chunk, ChunkOutcome, NewChunk, NewPart
from app.domain.jobs import Job
from app.domain.states import STOPPED_CHUNK, ChunkState
from app.errors import DatabaseUnavailable, LeaseLost
from config.queues import pool_of

RETRY_S = 1.0
SHORTEST_RATED_RUN_S = 0.2
FEWEST_RATED_ITEMS = 32
"""A run shorter or smaller than these two says more about overheads than about the model's rate."""


class ChunkCommit:
    """Ends one attempt on one chunk.

    Every method raises:
        LeaseLost: the chunk is another worker's now; nothing was written.
        DatabaseUnavailable: the database stayed away for as long as a lease lasts.
    """

    def __init__(self, database: Database, *, job: Job, chunk: Chunk, token: str, lease_s: float) -> None:
        self._database = database
        self._job = job
        self._chunk = chunk
        self._token = token
        self._lease_s = lease_s

    def done(
        self,
        *,
        outcome: ChunkOutcome,
        parts: Sequence[NewPart],
        recovery: NewChunk | None,
        rest: NewChunk | None = None,
        run_s: float,
        refusal: str | None = None,
    ) -> None:
        """Make the outcome of the chunk true: its sums, its parts, and the chunks of what is still to do.

        Args:
            recovery: the items to try again.
            rest: the items that were not reached before the run was stopped. Both wait, or are closed at once where
                the job has been stopped.
            refusal: why all other items of the job would fail too; from this commit on they do, without being run.
        """

        def write(connection: Connection) -> None:
            job = Jobs(connection).lock(self._job.id)
            chunks = Chunks(connection)
            chunks.finish(self._chunk.id, token=self._token, outcome=outcome)
            Outcomes(connection).add_parts(self._job.tenant_id, self._job.id, self._chunk.id, parts)
            behind = [chunk for chunk in (recovery, rest) if chunk is not None]
            if behind:
                chunks.insert(job.tenant_id, job.id, behind, state=_state_of_waiting(job))
            if refusal is not None and job.refusal is None:
                Jobs(connection).refuse(job, refusal)
            if rest is None and refusal is None and self._job.refusal is None:
                self._learn_rate(connection, run_s)

        self._commit(frozenset({ChunkState.DONE}), write)

    def split(self, new: Sequence[NewChunk]) -> None:
        """Replace the chunk by smaller ones."""

        def write(connection: Connection) -> None:
            Jobs(connection).lock(self._job.id)
            chunks = Chunks(connection)
            chunks.split(self._chunk.id, token=self._token)
            chunks.insert(self._job.tenant_id, self._job.id, new)

        self._commit(frozenset({ChunkState.SPLIT}), write)

    def untouched(self) -> ChunkState:
        """Leave a chunk of which nothing ran: it waits again, or is closed where its job has been stopped.

        Returns:
            The state it is left in.
        """
        state = ChunkState.PENDING

        def write(connection: Connection) -> None:
            nonlocal state
            chunks = Chunks(connection)
            state = _state_of_waiting(Jobs(connection).lock(self._job.id))
            if state is ChunkState.PENDING:
                chunks.hand_back(self._chunk.id, token=self._token, delay_s=0.0, count_as_death=False)
            else:
                chunks.stop_running(self._chunk.id, token=self._token, wanted=state)

        self._commit(frozenset(STOPPED_CHUNK.values()), write)
        return state

    def handed_back(self, *, delay_s: float, count_as_death: bool, death_cause: str | None = None) -> None:
        """Return the chunk unfinished; without effect where it is not ours any more."""
        with self._database.begin() as connection:
            Chunks(connection).hand_back(
                self._chunk.id,
                token=self._token,
                delay_s=delay_s,
                count_as_death=count_as_death,
                death_cause=death_cause,
            )
            notify(connection)

    def _learn_rate(self, connection: Connection, run_s: float) -> None:
        job = self._job
        if job.model is None or job.model_version is None or self._chunk.queue is None or run_s <= 0:
            return
        Workers(connection).learn_rate(
            model=job.model,
            version=job.model_version,
            pool=pool_of(self._chunk.queue),
            tokens_per_s=self._chunk.estimated_tokens / run_s,
            is_telling=run_s >= SHORTEST_RATED_RUN_S and self._chunk.n_items >= FEWEST_RATED_ITEMS,
        )

    def _commit(self, wanted: frozenset[ChunkState], write: Callable[[Connection], None]) -> None:
        give_up_at = time.monotonic() + self._lease_s
        while True:
            try:
                with self._database.begin() as connection:
                    write(connection)
                    notify(connection)
            except DatabaseUnavailable:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(RETRY_S)
            except LeaseLost:
                if not self._took_place(wanted):
                    raise
                return
            else:
                return

    def _took_place(self, wanted: frozenset[ChunkState]) -> bool:
        """Whether an earlier try, whose answer was lost, was committed after all."""
        with self._database.begin() as connection:
            found = Chunks(connection).get(self._chunk.id)
        return found is not None and found.state in wanted and found.attempt == self._chunk.attempt


def _state_of_waiting(job: Job) -> ChunkState:
    """What becomes of items that did not run, by the job's row."""
    return ChunkState.PENDING if job.stop_reason is None else STOPPED_CHUNK[job.stop_reason]
