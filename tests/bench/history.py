"""Figures kept from one run to the next, on the machine that they were measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.rows import Row, Target
from tests.bench.samples import Sample


@dataclass(frozen=True, slots=True)
class Measured:
    """A row, when it was measured, and how busy the machine was just before."""

    row: Row
    taken_at: str
    load: float


@dataclass(frozen=True, slots=True)
class History:
    """The newest measurement of each row on one machine; a run of some rows leaves the others as they were."""

    machine: str
    measured: dict[str, Measured]

    def updated(self, rows: Sequence[Row], *, taken_at: str, load: float) -> History:
        """With what was measured now."""
        return History(self.machine, self.measured | {row.key: Measured(row, taken_at, load) for row in rows})

    def previous(self, row: Row) -> float | None:
        """What this row was the last time; None where it was never measured."""
        found = self.measured.get(row.key)
        return None if found is None else found.row.value

    def save(self, path: Path) -> None:
        """Write the figures as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def load_history(path: Path, *, machine: str) -> History:
    """The figures kept at ``path``; none where they are another machine's."""
    if not path.exists():
        return History(machine, {})
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if kept.get("machine") != machine:
        return History(machine, {})
    return History(machine, {key: _measured(entry) for key, entry in kept["measured"].items()})


def _measured(entry: dict[str, Any]) -> Measured:
    row = entry["row"]
    target = None if row["target"] is None else Target(**row["target"])
    return Measured(
        Row(**{**row, "sample": Sample(**row["sample"]), "target": target}), entry["taken_at"], entry["load"]
    )
