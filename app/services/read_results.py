"""Read a job's result lines, while it runs and afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from app.db.repositories.jobs import Jobs
from app.db.repositories.parts import Parts
from app.domain.byte_ranges import Content, Segment
from app.domain.jobs import Job
from app.domain.result_lines import LineContext, to_native
from app.domain.result_pages import Cursor, PageOfLines, page_of_lines
from app.domain.states import TERMINAL_JOB_STATES
from app.errors import InvalidRequest, NotFound
from app.ports import ObjectStore
from app.storage.reading import read_lines
from app.wiring import Wiring


@dataclass(frozen=True, slots=True)
class Results:
    """A page of a job's result lines, not yet read."""

    job: Job
    page: PageOfLines

    @property
    def complete(self) -> bool:
        """Whether the job has ended: no line will be added, unless it is retried."""
        return self.job.state in TERMINAL_JOB_STATES

    @property
    def next_cursor(self) -> Cursor | None:
        """Where to go on; None at the end."""
        return None if self.complete and not self.page.has_more else self.end

    @property
    def end(self) -> Cursor:
        """The place behind this page."""
        return replace(self.page.end, run=self.job.attempt_runs)

    @property
    def stored_as_shown(self) -> bool:
        """Whether the parts hold the very lines that are shown, so that they can be passed on unparsed."""
        return line_context(self.job).is_native and all(piece.is_whole for piece in self.page.slices)

    @property
    def content(self) -> Content:
        """The stored bytes; meaningful where ``stored_as_shown``."""
        parts = (piece.part for piece in self.page.slices)
        return Content(tuple(Segment(part.object_key, 0, part.size_bytes) for part in parts))

    def lines(self, storage: ObjectStore) -> Iterator[bytes]:
        """The lines in the native dialect, one by one.

        Raises:
            ObjectMissing, StorageUnavailable: the stream ends there.
        """
        context = line_context(self.job)
        for piece in self.page.slices:
            for line in read_lines(storage, piece):
                yield to_native(line, outcome=piece.part.outcome, context=context)


def read_results(
    *,
    wiring: Wiring,
    tenant_id: str,
    job_id: str,
    statuses: Collection[str] | None,
    after: Cursor,
    limit: int | None,
) -> Results:
    """Find the lines behind ``after``.

    Args:
        statuses: only lines of these outcomes; None for all.
        limit: lines at most; None for all that exist.
    Raises:
        NotFound: no such job, another tenant's, or its results are past their life.
        InvalidRequest: lines before ``after`` were replaced by a retry; going on would give their items twice.
    """
    # One moment for the job and its parts: a job that has ended then has all of its parts.
    with wiring.database.snapshot() as connection:
        job = Jobs(connection).get(tenant_id, job_id)
        check_not_expired(Parts(connection), job)
        return results_of(connection, job, statuses=statuses, after=after, limit=limit)


def results_of(
    connection: Connection, job: Job, *, statuses: Collection[str] | None, after: Cursor, limit: int | None
) -> Results:
    """The lines of a job behind ``after``; see ``read_results``."""
    stored = Parts(connection)
    _check_up_to_date(stored, job, after)
    parts = stored.list(job.tenant_id, job.id, outcomes=statuses, from_seq=after.seq)
    return Results(job, page_of_lines(parts, after=after, limit=limit))


def _check_up_to_date(parts: Parts, job: Job, after: Cursor) -> None:
    if after.run >= job.attempt_runs:
        return
    if any(map(after.is_behind, parts.superseded_after(job.tenant_id, job.id, after.run))):
        raise outdated_cursor()


def outdated_cursor() -> InvalidRequest:
    """The refusal of a cursor that leads past lines which are no longer what the client has read."""
    message = "there was a retry since this cursor was given, and lines before it were replaced: begin anew"
    return InvalidRequest(message, param="after", code="cursor_outdated")


def check_not_expired(parts: Parts, job: Job) -> None:
    """Refuse to read results that are past their life, whether or not they are swept yet.

    Raises:
        NotFound: they are.
    """
    if parts.are_expired(job.tenant_id, job.id):
        raise NotFound(f"the results of job {job.id} expired on {job.results_expire_at:%Y-%m-%d %H:%M} UTC")


def line_context(job: Job) -> LineContext:
    """What the lines of a job share."""
    return LineContext(dialect=job.dialect, job_id=job.id, model_version=job.model_version)
