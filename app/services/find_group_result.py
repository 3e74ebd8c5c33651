"""Find the result of one item of a group."""

from __future__ import annotations

from app.db.repositories.parts import Parts
from app.errors import NotFound
from app.services.find_result import search_parts
from app.services.read_group_results import readable_group
from app.wiring import Wiring


def find_group_result(*, wiring: Wiring, tenant_id: str, group_id: str, custom_id: str) -> bytes:
    """The result line of an item, whichever job of the group has it; in bulk, read the group's results.

    Unlike the merged stream it does not wait for the jobs in front of that one.

    Raises:
        NotFound: no such group, or no result of such an item yet.
    """
    with wiring.database.snapshot() as connection:
        group = readable_group(connection, tenant_id, group_id)
        parts = Parts(connection).of_group(tenant_id, group.id)
    found = search_parts(wiring.storage, parts, custom_id)
    if found is None:
        raise NotFound(f"group {group.id} has no result of an item {custom_id[:80]!r} yet", param="custom_id")
    line, _outcome = found  # groups are native: a line is stored as it is shown
    return line
