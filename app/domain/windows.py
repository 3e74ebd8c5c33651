"""Completion windows: ``"90s"``, ``"15m"``, ``"1h"``, ``"24h"``, ``"7d"``."""

from __future__ import annotations

import re

from app.errors import InvalidRequest

_WINDOW = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SHORTEST_S = 60
LONGEST_S = 7 * 86_400
ESCALATE_AT = 5 / 6
"""Share of its window after which a job that asked for it becomes urgent: 20 hours of 24."""


def window_seconds(text: str) -> int:
    """The length of a completion window.

    Raises:
        InvalidRequest: not a window, or outside one minute to seven days.
    """
    match = _WINDOW.fullmatch(text)
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        message = f'\'completion_window\' must be from "60s" to "7d", such as "24h"; it is {text[:40]!r}.'
        raise InvalidRequest(message, param="completion_window")
    return seconds
