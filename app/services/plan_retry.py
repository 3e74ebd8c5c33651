"""Plan a retry: find the items that are to run again, and cut them into chunks.

Whether a retry takes place was decided and committed by the request; here is the part that reads, under the same lease
and the same care of the dispatcher as the planning of a new job. What was taken over counts as pending meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog
from sqlalchemy import func

from app.db.notify import notify
from app.db.repositories.chunks import Chunks
from app.db.repositories.jobs import Jobs
from app.db.repositories.retries import Retries
from app.db.repositories.workers import Workers
from app.domain.chunking import chunk_share_s
from app.domain.chunks import Chunk, NewChunk
from app.domain.input_lines import LineProblem
from app.domain.jobs import ResultPart
from app.domain.result_lines import tried_item
from app.domain.result_pages import PartSlice
from app.domain.retry_plan import failed_again, joined, stopped_again
from app.domain.states import STOPPED_CHUNK, ChunkState
from app.errors import ResultsIncomplete
from app.services.chunk_input import chunk_spans
from app.services.model_placement import count_workers
from app.services.preparation import Preparation, Prepared
from app.services.read_results import line_context
from app.storage.reading import read_lines

log = structlog.get_logger(__name__)


class RetryPreparation(Preparation):
    """One planner's work on the present run of a job."""

    def run(self) -> Prepared:
        """Write the chunks of the run, in one transaction and if this planner still has the right to."""
        with self._wiring.database.begin() as connection:
            taken = Chunks(connection).retried_in(self._job.id, self._job.attempt_runs)
            parts = Retries(connection).failed_parts(self._job)
        tick = self.renewal()
        failed = list(self._failed(taken, parts, tick))
        stopped = [stopped_again(chunk) for chunk in taken if chunk.state is not ChunkState.DONE]
        return self._settle([*self._joined(failed), *stopped])

    def fail(self, code: str, message: str, problems: Sequence[LineProblem] = ()) -> Prepared:
        """Take the retry back: the outcomes of before stand, and the finaliser ends the job with them."""
        del problems
        with self._wiring.database.begin() as connection:
            jobs = Jobs(connection)
            job = jobs.lock_preparation(self._job.id, token=self._token)
            if job is None:
                return Prepared.LOST
            Retries(connection).give_back(job, code=code, message=message)
            jobs.update(job.id, prepare_until=None, queued_at=func.now())
            notify(connection)
        log.error("retry_given_up", job_id=job.id, run=job.attempt_runs, code=code, reason=message)
        return Prepared.REFUSED

    def _failed(
        self, taken: Sequence[Chunk], parts: dict[int, ResultPart], tick: Callable[[], None]
    ) -> Iterator[NewChunk]:
        """The failed items of each chunk, which only its part tells apart from those that succeeded."""
        for chunk in taken:
            if chunk.state is not ChunkState.DONE:
                continue
            tick()
            attempts = self._attempts(parts[chunk.id])
            spans = chunk_spans(
                storage=self._wiring.storage,
                input_key=self._job.input_key,
                chunk=chunk,
                max_line_bytes=self._wiring.settings.max_line_bytes,
            )
            again = failed_again(chunk, spans, attempts)
            if again.n_items != len(attempts):
                raise ResultsIncomplete(f"chunk {chunk.id} has {again.n_items} of the {len(attempts)} failed items")
            yield again

    def _attempts(self, part: ResultPart) -> dict[int, int]:
        """Index of each item of a part of failed ones -> how often it was tried."""
        context = line_context(self._job)
        lines = read_lines(self._wiring.storage, PartSlice(part, 0, part.n_items))
        return dict(tried_item(line, outcome=part.outcome, context=context) for line in lines)

    def _joined(self, pieces: list[NewChunk]) -> list[NewChunk]:
        settings = self._wiring.settings
        with self._wiring.database.begin() as connection:
            workers = Workers(connection).live(silence_s=settings.worker_silence_s)
        chunk_s = chunk_share_s(
            sum(piece.estimated_s for piece in pieces),
            target_s=settings.chunk_target_s,
            n_workers=count_workers(self._job.pool or "", workers=workers, queues=settings.queues),
        )
        return joined(pieces, chunk_s=chunk_s, max_items=settings.chunk_max_items)

    def _settle(self, new: list[NewChunk]) -> Prepared:
        with self._wiring.database.begin() as connection:
            jobs, chunks = Jobs(connection), Chunks(connection)
            job = jobs.lock_preparation(self._job.id, token=self._token)
            if job is None:
                return Prepared.LOST
            chunks.insert(job.tenant_id, job.id, new)
            jobs.update(job.id, prepare_until=None, queued_at=func.now())
            if job.stop_reason is not None:
                chunks.stop_waiting(job.id, STOPPED_CHUNK[job.stop_reason])
            notify(connection)
        return Prepared.PLANNED
