"""Check the whole input of a group before any of it runs: a bad line anywhere refuses all of it, as for a job."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func

from app.db.repositories.groups import Groups
from app.db.repositories.workers import Workers
from app.domain.groups import Group
from app.domain.input_lines import InputCheck, LineProblem
from app.errors import ObjectMissing
from app.services.group_lead import GroupLead
from app.services.model_placement import pool_for, usable_model
from app.services.plan_input import input_check, sound_lines
from app.storage.spilled_ids import spilled_ids
from app.wiring import Wiring


def check_group(*, wiring: Wiring, lead: GroupLead, group: Group) -> Group:
    """Read the input once, in flat memory; gives the group as it is then, checked or refused.

    Raises:
        LeaseLost: another process leads the group.
        StorageUnavailable, DatabaseUnavailable: nothing changed.
    """
    try:
        check = _checked(wiring, lead, group)
    except ObjectMissing:
        return refuse_group(lead, "invalid_value", "The input file is gone: it was deleted or has expired.")
    if check.problems:
        return refuse_group(lead, check.problems[0].code, check.problems[0].message, check.problems)
    model = usable_model(wiring.models, check.model, group.endpoint)
    with wiring.database.begin() as connection:
        workers = Workers(connection).live(silence_s=wiring.settings.worker_silence_s)
        pool = pool_for(connection, model, workers=workers, queues=wiring.settings.queues)
    placed = {
        "model": model.alias if model else group.model,
        # Of all members, however long it takes to make them.
        "model_version": model.stable_version if model else None,
        "pool": pool,
    }
    with lead.write() as (connection, found):
        return Groups(connection).update(
            found.id,
            n_items=check.n_items,
            model=placed["model"],
            member={**found.member, **placed},
            validated_at=func.now(),
            lead_attempts=0,
        )


def refuse_group(lead: GroupLead, code: str, message: str, problems: Sequence[LineProblem] = ()) -> Group:
    """End a group before it has members; nothing of it ran."""
    with lead.write() as (connection, group):
        return Groups(connection).update(
            group.id,
            validation_errors=[problem.storable() for problem in problems],
            failure={"code": code, "message": message},
            n_items=0,
            planned_at=func.now(),
            closed_at=func.now(),
        )


def _checked(wiring: Wiring, lead: GroupLead, group: Group) -> InputCheck:
    with spilled_ids(lead.tick) as seen, wiring.storage.open(group.input_key) as reader:
        check = input_check(wiring, group, max_items=wiring.settings.max_group_items, seen=seen)
        for _line in sound_lines(check, reader, tick=lead.tick):
            """Its check is all that is wanted of it now."""
        check.finish()
    return check
