"""The lead of a group: one process at a time, under a lease, is in charge of what no member does by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from app.db.notify import notify
from app.db.repositories.groups import Groups
from app.domain.groups import Group
from app.errors import LeaseLost
from app.wiring import Wiring

RENEW_EVERY_S = 5.0


class GroupLead:
    """One process's lead of one group, under its token."""

    def __init__(self, wiring: Wiring, group_id: str, token: str) -> None:
        self._wiring = wiring
        self._group_id = group_id
        self._token = token
        self._renewed_at = time.monotonic()

    @contextmanager
    def write(self) -> Iterator[tuple[Connection, Group]]:
        """One transaction, with the group's row locked and as it is now.

        Raises:
            LeaseLost: another process leads the group; nothing is written.
        """
        with self._wiring.database.begin() as connection:
            group = Groups(connection).lock_led(self._group_id, token=self._token)
            if group is None:
                raise self._lost()
            yield connection, group
            notify(connection)

    def tick(self) -> None:
        """Keep the lease; called as often as one likes.

        Raises:
            LeaseLost: another process leads the group.
        """
        if time.monotonic() - self._renewed_at < RENEW_EVERY_S:
            return
        self._renewed_at = time.monotonic()
        with self._wiring.database.begin() as connection:
            lease_s = self._wiring.settings.lease_s
            if not Groups(connection).renew(self._group_id, token=self._token, lease_s=lease_s):
                raise self._lost()

    def give_back(self, *, counted: bool) -> None:
        """End the lead before its time."""
        with self._wiring.database.begin() as connection:
            Groups(connection).release(self._group_id, token=self._token, counted=counted)
            notify(connection)

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"another process leads group {self._group_id}")
