"""Read the result lines of a group as one stream: the members' streams, one behind the other.

A place in it must stay valid while it grows, so it ends with the first member that has not ended; what members behind
that one have finished by then follows when it is their turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from app.db.repositories.groups import Groups
from app.db.repositories.jobs import Jobs
from app.domain.byte_ranges import Content
from app.domain.groups import Group, Member, group_state
from app.domain.result_pages import Cursor, GroupCursor
from app.domain.states import TERMINAL_JOB_STATES
from app.errors import NotFound
from app.ports import ObjectStore
from app.services.read_results import Results, outdated_cursor, results_of
from app.wiring import Wiring


@dataclass(frozen=True, slots=True)
class GroupResults:
    """A page of a group's result lines, not yet read."""

    pages: Sequence[Results]
    complete: bool
    """Whether the group has ended: no line will be added."""
    next_cursor: GroupCursor | None
    """Where to go on; None at the end."""

    @property
    def stored_as_shown(self) -> bool:
        """See ``Results.stored_as_shown``."""
        return all(page.stored_as_shown for page in self.pages)

    @property
    def content(self) -> Content:
        """See ``Results.content``."""
        return Content(tuple(segment for page in self.pages for segment in page.content.segments))

    def lines(self, storage: ObjectStore) -> Iterator[bytes]:
        """See ``Results.lines``."""
        for page in self.pages:
            yield from page.lines(storage)


def read_group_results(
    *,
    wiring: Wiring,
    tenant_id: str,
    group_id: str,
    statuses: Collection[str] | None,
    after: GroupCursor,
    limit: int | None,
) -> GroupResults:
    """Find the lines behind ``after``.

    Args:
        statuses: only lines of these outcomes; None for all.
        limit: lines at most; None for all that are in their turn.
    Raises:
        NotFound: no such group, another tenant's, or its results are past their life.
        InvalidRequest: lines before ``after`` were replaced by a retry; going on would give their items twice.
    """
    # One moment for all members and their parts: one that has ended then has all of its parts.
    with wiring.database.snapshot() as connection:
        group = readable_group(connection, tenant_id, group_id)
        members = Groups(connection).members(group.id)
        complete = group_state(group, members) in TERMINAL_JOB_STATES
        walk = _Walk(connection, statuses, after, limit)
        walk.over(members)
    return GroupResults(walk.pages, complete, None if complete and not walk.has_more else walk.end)


def readable_group(connection: Connection, tenant_id: str, group_id: str) -> Group:
    """A group whose results may be read.

    Raises:
        NotFound: no such group, another tenant's, or its results are past their life.
    """
    groups = Groups(connection)
    group = groups.get(tenant_id, group_id)
    if groups.are_expired(group.id):
        raise NotFound(f"the results of group {group.id} expired on {group.results_expire_at:%Y-%m-%d %H:%M} UTC")
    return group


class _Walk:
    """Goes from member to member until the page is full or the stream ends for now."""

    def __init__(
        self, connection: Connection, statuses: Collection[str] | None, after: GroupCursor, limit: int | None
    ) -> None:
        self._connection = connection
        self._statuses = statuses
        self._room = limit
        self.end = after
        self.has_more = False
        self._n_runs = 0
        self.pages: list[Results] = []

    def over(self, members: Sequence[Member]) -> None:
        begin = self.end
        self._n_runs = sum(member.attempt_runs for member in members[: begin.ordinal])
        if self._n_runs > begin.n_runs_before:
            raise outdated_cursor()
        for member in members[begin.ordinal :]:
            place = begin.place if member.ordinal == begin.ordinal else Cursor()
            self._take(member, place)
            self._n_runs += member.attempt_runs
            if self.has_more or member.state not in TERMINAL_JOB_STATES:
                return

    def _take(self, member: Member, place: Cursor) -> None:
        job = Jobs(self._connection).get_any(member.id)
        found = results_of(self._connection, job, statuses=self._statuses, after=place, limit=self._room)
        self.pages.append(found)
        self.has_more = found.page.has_more
        self.end = GroupCursor(member.ordinal, self._n_runs, found.end)
        if self._room is not None:
            self._room -= sum(piece.take for piece in found.page.slices)
