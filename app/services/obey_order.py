"""Pass the latest order to a group on to its members, one after another.

Level-triggered: each member remembers the last order that reached it, so whoever leads the group goes on where the
last one stopped, and a newer order takes the place of one that is still under way.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Connection

from app.db.repositories.groups import Groups
from app.db.repositories.jobs import Jobs
from app.domain.groups import Group, GroupOrder
from app.domain.jobs import Job
from app.errors import Gone, StateConflict
from app.services.cancel_job import cancel_locked
from app.services.group_lead import GroupLead
from app.services.pause_job import pause_locked
from app.services.resume_job import resume_locked
from app.services.retry_job import retry_locked
from app.wiring import Wiring

MEMBERS_AT_ONCE = 100


def pass_order_on(*, wiring: Wiring, lead: GroupLead, group: Group) -> None:
    """Let every member that has not had the latest order obey it.

    Raises:
        LeaseLost: another process leads the group.
        DatabaseUnavailable: those that obeyed so far are noted.
    """
    while True:
        with wiring.database.begin() as connection:
            behind = Groups(connection).behind(group.id, group.order_seq, MEMBERS_AT_ONCE)
        if not behind:
            return
        for job_id in behind:
            with lead.write() as (connection, current):
                obey_in_group(connection, current, Jobs(connection).lock(job_id))
            lead.tick()


def obey_in_group(connection: Connection, group: Group, job: Job) -> None:
    """Let one member obey; one whose state forbids it, because it has ended for one, is left as it is."""
    with suppress(StateConflict, Gone):
        _obey(connection, group, job)
    Jobs(connection).update(job.id, group_order_seq=group.order_seq)


def _obey(connection: Connection, group: Group, job: Job) -> None:
    match group.order_kind:
        case GroupOrder.CANCEL:
            cancel_locked(connection, job)
        case GroupOrder.PAUSE:
            pause_locked(connection, job)
        case GroupOrder.RESUME:
            resume_locked(connection, job)
        case GroupOrder.RETRY:
            retry_locked(connection, job, group.order_data["include"])
        case None:
            """Nothing was asked of the members yet."""
