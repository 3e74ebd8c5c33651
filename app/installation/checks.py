"""The shape of a check's answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from app.errors import NightshiftError


class CheckState(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"  # works, but not as it should
    FAILED = "failed"  # work cannot go on, or is being lost sight of


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: CheckState
    found: str
    advice: str | None = None
    """What to do; None where all is well."""


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name=name, state=CheckState.OK, found=found)


def warning(name: str, found: str, *, advice: str) -> Check:
    """It works, but somebody should look."""
    return Check(name=name, state=CheckState.WARNING, found=found, advice=advice)


def failed(name: str, found: str, *, advice: str) -> Check:
    """It does not work."""
    return Check(name=name, state=CheckState.FAILED, found=found, advice=advice)


def guarded(name: str, look: Callable[[], Check], *, advice: str) -> Check:
    """Run one check; a dependency that fails under it is its answer."""
    try:
        return look()
    except NightshiftError as error:
        return failed(name, error.message, advice=advice)
