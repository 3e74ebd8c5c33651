"""Lead a group on: check its input, make its members, pass orders on to them, close it. May run any number of times."""

from __future__ import annotations

import secrets
from enum import StrEnum

from app.db.repositories.groups import Groups
from app.domain.groups import Group, group_state
from app.domain.states import TERMINAL_JOB_STATES
from app.errors import DependencyFailed, LeaseLost
from app.services.check_group import check_group, refuse_group
from app.services.group_lead import GroupLead
from app.services.obey_order import pass_order_on
from app.services.plan_group import plan_group
from app.services.tenant_quotas import tenant_quota
from app.wiring import Wiring

MOST_ATTEMPTS = 10


class Led(StrEnum):
    """How a turn ended."""

    DONE = "done"
    NOT_NEEDED = "not_needed"
    LOST = "lost"


def lead_group(*, wiring: Wiring, group_id: str) -> Led:
    """Do whatever a group needs now; what was done is committed step by step, so the next lead goes on from there.

    Raises:
        StorageUnavailable, DatabaseUnavailable: the dispatcher sends the group again.
    """
    token = secrets.token_hex(8)
    with wiring.database.begin() as connection:
        claimed = Groups(connection).claim(group_id, token=token, lease_s=wiring.settings.lease_s)
    if claimed is None:
        return Led.NOT_NEEDED
    group, attempts = claimed
    lead = GroupLead(wiring, group_id, token)
    try:
        if attempts > MOST_ATTEMPTS and group.validated_at is None:
            refuse_group(lead, "internal", f"The input could not be read in {MOST_ATTEMPTS} attempts.")
        else:
            _advance(wiring, lead, group)
    except LeaseLost:
        return Led.LOST
    except DependencyFailed:
        lead.give_back(counted=False)
        raise
    except Exception:
        lead.give_back(counted=True)
        raise
    lead.give_back(counted=False)
    return Led.DONE


def _advance(wiring: Wiring, lead: GroupLead, group: Group) -> None:
    if group.validated_at is None:
        group = check_group(wiring=wiring, lead=lead, group=group)
    if group.planned_at is None:
        group = plan_group(wiring=wiring, lead=lead, group=group)
    pass_order_on(wiring=wiring, lead=lead, group=group)
    _close_if_ended(wiring, lead)


def _close_if_ended(wiring: Wiring, lead: GroupLead) -> None:
    with lead.write() as (connection, group):
        groups = Groups(connection)
        if group.closed_at is None and group_state(group, groups.members(group.id)) in TERMINAL_JOB_STATES:
            quota = tenant_quota(connection, wiring.settings, tenant_id=group.tenant_id)
            asked_s = group.member["output_expires_after_s"] or wiring.settings.results_retention_s
            groups.close(group.id, life_s=quota.life_s(asked_s))
