"""A row of the table: what was measured, in which unit, and what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.bench.samples import Sample

Statistic = Literal["median", "p99", "smallest", "largest"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be."""

    limit: float
    at_least: bool

    def is_met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


def at_most(limit: float) -> Target:
    return Target(limit, at_least=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        key: names it over all runs: ``short.over_bare``.
        unit: of its values; ``x`` for a ratio, ``%`` for a share, which is kept as a share of 1.
        statistic: which of its values is the figure.
    """

    key: str
    what: str
    unit: str
    sample: Sample
    target: Target | None = None
    statistic: Statistic = "median"

    @property
    def value(self) -> float:
        values = self.sample.values
        return {"median": self.sample.p50, "p99": self.sample.p99, "smallest": min(values), "largest": max(values)}[
            self.statistic
        ]

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.is_met_by(self.value)


def shown(value: float, unit: str) -> str:
    """A value with its unit, as a person reads it."""
    if unit == "%":
        return f"{value * 100:.1f} %"
    if unit == "x":
        return f"{value:.2f}x"
    if unit == "cosine":
        return f"{value:.7f}"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
