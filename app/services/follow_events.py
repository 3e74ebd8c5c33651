"""What listeners to jobs and groups are to be told next, read for all of them in one snapshot of the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from app.db.repositories.groups import Groups
from app.db.repositories.jobs import Jobs
from app.db.repositories.live_events import LiveEvents
from app.domain.groups import GroupDetails
from app.domain.jobs import Counts, JobDetails
from app.domain.live_events import EventRow, Mark, done_frame, event_frame, frame, progress_frame
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.services.group_details import group_details
from app.services.job_details import job_details
from app.wiring import Wiring

EVENTS_AT_ONCE = 500


@dataclass(slots=True)
class JobFeed:
    """One listener to a job."""

    tenant_id: str
    job_id: str
    mark: Mark
    starts_in: JobState | None
    """Told first, by a listener that does not go on from an event."""
    counts: Counts | None = None
    """As told last."""
    has_ended: bool = False


@dataclass(slots=True)
class GroupFeed:
    """One listener to a group. It is told how the group stands and not what its jobs did, so it needs no mark."""

    tenant_id: str
    group_id: str
    state: JobState | None = None
    counts: Counts | None = None
    """Both as told last."""
    has_ended: bool = False


Feed = JobFeed | GroupFeed


def follow_job(*, wiring: Wiring, tenant_id: str, job_id: str, mark: Mark | None) -> JobFeed | None:
    """Begin to listen to a job: behind an event, or from how it stands now.

    Returns:
        None where the listener was told of the end already and nothing has happened since.
    Raises:
        NotFound: no such job, or another tenant's.
    """
    with wiring.database.snapshot() as connection:
        job = Jobs(connection).get(tenant_id, job_id)
        last_id = LiveEvents(connection).last_id(job_id)
    if mark is None:
        return JobFeed(tenant_id, job_id, Mark(last_id), starts_in=job.state)
    if mark.is_done and mark.event_id >= last_id and job.state in TERMINAL_JOB_STATES:
        return None
    # A mark that none of its events has reached is another job's.
    return JobFeed(tenant_id, job_id, Mark(min(mark.event_id, last_id)), starts_in=None)


def follow_group(*, wiring: Wiring, tenant_id: str, group_id: str) -> GroupFeed:
    """Begin to listen to a group.

    Raises:
        NotFound: no such group, or another tenant's.
    """
    with wiring.database.begin() as connection:
        Groups(connection).get(tenant_id, group_id)
    return GroupFeed(tenant_id, group_id)


def read_feeds(*, wiring: Wiring, feeds: Sequence[Feed]) -> list[bytes]:
    """What each listener is to be told now, in their order; empty where nothing is new.

    Raises:
        DatabaseUnavailable: nothing was read, and every feed is as it was; ask again.
    """
    of_jobs = [feed for feed in feeds if isinstance(feed, JobFeed)]
    of_groups = [feed for feed in feeds if isinstance(feed, GroupFeed)]
    with wiring.database.snapshot() as connection:
        jobs = _read_jobs(wiring, connection, of_jobs)
        groups = _read_groups(wiring, connection, {feed.group_id for feed in of_groups})
    told = {id(feed): _job_frames(feed, rows, now) for feed, rows, now in jobs}
    told |= {id(feed): _group_frames(feed, groups[feed.group_id]) for feed in of_groups}
    return [b"".join(told.get(id(feed), [])) for feed in feeds]


def _read_jobs(
    wiring: Wiring, connection: Connection, feeds: Sequence[JobFeed]
) -> list[tuple[JobFeed, list[EventRow], JobDetails]]:
    """What is new, and how the job stands, for each feed that has something to tell."""
    if not feeds:
        return []
    marks = [(feed.job_id, feed.mark.event_id) for feed in feeds]
    rows = LiveEvents(connection).behind(marks, limit=EVENTS_AT_ONCE)
    # What was told is told; a listener that is new has not been told how the job stands.
    news = [(feed, found) for feed, found in zip(feeds, rows, strict=True) if found or feed.counts is None]
    jobs = Jobs(connection).several(list({feed.job_id for feed, _ in news})) if news else {}
    details = {one.job.id: one for one in job_details(connection, list(jobs.values()), wiring.models)}
    return [(feed, found, details[feed.job_id]) for feed, found in news]


def _job_frames(feed: JobFeed, rows: Sequence[EventRow], now: JobDetails) -> list[bytes]:
    frames = []
    if feed.starts_in is not None:
        frames.append(frame("state", {"id": feed.job_id, "state": feed.starts_in}, feed.mark))
        feed.starts_in = None
    for row in rows:
        frames.append(event_frame(row))
        feed.mark = Mark(row.id)
    if len(rows) == EVENTS_AT_ONCE:  # there may be more, and how the job stands comes behind them
        return frames
    if now.counts != feed.counts:
        frames.append(progress_frame(feed.job_id, now.counts))
        feed.counts = now.counts
    if now.job.state in TERMINAL_JOB_STATES:
        feed.mark = Mark(feed.mark.event_id, is_done=True)
        frames.append(done_frame(feed.job_id, now.job.state, now.counts, feed.mark))
        feed.has_ended = True
    return frames


def _read_groups(wiring: Wiring, connection: Connection, group_ids: set[str]) -> dict[str, GroupDetails]:
    groups = Groups(connection)
    return {
        group_id: group_details(connection, groups.get_any(group_id), wiring.models) for group_id in sorted(group_ids)
    }


def _group_frames(feed: GroupFeed, now: GroupDetails) -> list[bytes]:
    frames = []
    if now.state is not feed.state:
        frames.append(frame("state", {"id": feed.group_id, "state": now.state}))
    if now.counts != feed.counts:
        frames.append(progress_frame(feed.group_id, now.counts))
    feed.state, feed.counts = now.state, now.counts
    if now.state in TERMINAL_JOB_STATES and now.group.closed_at is not None:
        frames.append(done_frame(feed.group_id, now.state, now.counts))
        feed.has_ended = True
    return frames
