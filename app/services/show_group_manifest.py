"""Show what a group's results consist of."""

from __future__ import annotations

from app.db.repositories.groups import Groups
from app.db.repositories.parts import Parts
from app.domain.groups import group_state
from app.domain.manifests import GroupManifest
from app.domain.states import TERMINAL_JOB_STATES
from app.services.read_group_results import readable_group
from app.wiring import Wiring


def show_group_manifest(*, wiring: Wiring, tenant_id: str, group_id: str) -> GroupManifest:
    """The result parts of all members that exist now; all of them once the group has ended.

    Raises:
        NotFound: no such group, another tenant's, or its results are past their life.
    """
    with wiring.database.snapshot() as connection:
        group = readable_group(connection, tenant_id, group_id)
        members = Groups(connection).members(group.id)
        parts = Parts(connection).of_group(tenant_id, group.id)
    return GroupManifest(group.id, group_state(group, members) in TERMINAL_JOB_STATES, parts)
