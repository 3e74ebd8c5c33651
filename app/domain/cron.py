"""When a cron line is due, in its own time zone.

croniter does the arithmetic; this module fixes what a user may write, and what happens on the two odd nights:

- an hour that is skipped (spring): a run inside it happens once, at the first moment after it;
- an hour that comes twice (autumn): a line that names hours runs in the first of the two only, a line whose hour
  is ``*`` runs in both, as it does every hour.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterError

from app.errors import InvalidRequest

N_FIELDS = 5
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# croniter's random and hashed fields would give each process its own moments.
_RANDOM = re.compile(r"(^|[\s,])[hr]([\s,(/]|$)", re.IGNORECASE)
_YEARS_AHEAD = 8


def check_timezone(name: str) -> ZoneInfo:
    """The zone of that name.

    Raises:
        InvalidRequest: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(
            f"{name!r} is not a time zone; use an IANA name, for example Europe/Berlin", param="timezone"
        ) from error


def next_tick(cron: str, timezone: str, *, after: datetime) -> datetime:
    """The first moment behind ``after`` (aware) at which the line is due, in UTC.

    Raises:
        InvalidRequest: the line cannot be read or is never due, or there is no such zone.
    """
    zone = check_timezone(timezone)
    line = _readable(cron)
    hour = line.split()[1]
    try:
        moments = croniter(line, after.astimezone(zone), max_years_between_matches=_YEARS_AHEAD)
        moment: datetime = moments.get_next(datetime)
        while moment.fold and hour != "*" and _also_named(moment):
            moment = moments.get_next(datetime)
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        raise InvalidRequest(f"{cron!r} is not a cron line that is ever due: {error}", param="cron") from error
    return moment.astimezone(UTC)


def _readable(cron: str) -> str:
    line = ALIASES.get(cron.strip().lower(), cron.strip())
    if len(line.split()) != N_FIELDS or _RANDOM.search(line):
        raise InvalidRequest(
            f'{cron!r} is not a cron line: write minute hour day month weekday, for example "30 2 * * *"', param="cron"
        )
    return line


def _also_named(moment: datetime) -> bool:
    """Whether the wall clock showed this moment once before, an offset ago."""
    return moment.utcoffset() != moment.replace(fold=0).utcoffset()
