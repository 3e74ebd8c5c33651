"""Puts together what is known of a group beside its row: sums over its members, and the state that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from app.db.repositories.groups import Groups
from app.db.repositories.outcomes import Outcomes, Tally
from app.domain.groups import Group, GroupDetails, Member, counts_of, group_state
from app.domain.jobs import Cost, Counts, Usage
from app.services.job_details import cost_of_job
from config.models import ModelSpec

_COUNTS = ("pending", "running", "succeeded", "failed", "cancelled", "expired")
_USAGE = ("input_tokens", "output_tokens", "device_s")
_COST = ("list", "discount", "charged")


def group_details(connection: Connection, group: Group, models: Mapping[str, ModelSpec]) -> GroupDetails:
    """A group with its sums; few queries, however many members it has."""
    members = Groups(connection).members(group.id)
    ended = [member.final for member in members if member.final is not None]
    live = _live_tally(connection, members)
    errors = sum((Counter(final["errors_by_code"]) for final in ended), Counter(live.errors_by_code))
    return GroupDetails(
        group=group,
        state=group_state(group, members),
        members=members,
        counts=counts_of(live.counts, (final["counts"] for final in ended), total=group.n_items or 0),
        usage=Usage(**_summed(_USAGE, live.usage, (final["usage"] for final in ended))),
        cost=_cost(cost_of_job(group.model, live.usage, models), [final["cost"] for final in ended]),
        errors_by_code=dict(errors),
    )


def _live_tally(connection: Connection, members: Sequence[Member]) -> Tally:
    """The sums over the members that have not ended."""
    live = [member.id for member in members if member.final is None]
    tallies = Outcomes(connection).tallies(live).values() if live else ()
    counts = {name: sum(getattr(tally.counts, name) for tally in tallies) for name in _COUNTS}
    return Tally(
        counts=Counts(total=sum(counts.values()), **counts),
        usage=Usage(**{name: sum(getattr(tally.usage, name) for tally in tallies) for name in _USAGE}),
        errors_by_code=dict(sum((Counter(tally.errors_by_code) for tally in tallies), Counter())),
    )


def _summed(names: Iterable[str], live: Any, ended: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Fields of what lives and of what was written down, added up."""
    written = list(ended)
    return {name: getattr(live, name) + sum(each[name] for each in written) for name in names}


def _cost(live: Cost, ended: Sequence[Mapping[str, Any]]) -> Cost:
    return Cost(currency=live.currency, **_summed(_COST, live, ended))
