"""A device worker whose model breaks as items tell it to: ``python tests/broken_worker.py --queue cpu.0``.

It is the real worker in everything but the engine, which is echo with one more control, ``body["breaks"]``:
``eats_memory`` (take memory until something stops it), ``never_fits`` (the device's memory is too small for the item),
``fits_alone`` (too small for more than one such item at once), ``loses_device`` (the context is poisoned).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from app.domain.items import InputItem
from app.errors import OutOfDeviceMemory
from workers import gpu
from workers.engines import registry
from workers.engines.base import DeviceLost
from workers.engines.echo import EchoBatch, EchoEngine, EchoWindow

EATS_MOST_BYTES = 1500 * 2**20
BITE_BYTES = 16 * 2**20
HELD_S = 60


@dataclass(frozen=True, slots=True)
class BreakingBatch:
    """Items that break in the same way."""

    positions: Sequence[int]
    how: str

    def halves(self) -> tuple[Self, Self] | None:
        middle = len(self.positions) // 2
        if not middle:
            return None
        return type(self)(self.positions[:middle], self.how), type(self)(self.positions[middle:], self.how)


class BreakingEngine(EchoEngine):
    """Echoes, and breaks where it is told to."""

    uses_device = True

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> EchoWindow:
        window = super().prepare(items, on_oversize=on_oversize)
        kinds: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            if how := item.body.get("breaks"):
                kinds.setdefault(how, []).append(position)
        broken = {position for positions in kinds.values() for position in positions}
        well = [position for batch in window.batches for position in batch.positions if position not in broken]
        batches: list[Any] = [EchoBatch(positions=well)] if well else []
        window.batches = [*batches, *(BreakingBatch(positions, how) for how, positions in kinds.items())]
        return window

    def forward(self, batch: Any, *, should_stop: Callable[[], bool]) -> None:
        if not isinstance(batch, BreakingBatch):
            super().forward(batch, should_stop=should_stop)
        elif batch.how == "eats_memory":
            _eat_memory()
        elif batch.how == "loses_device":
            raise DeviceLost("CUDA error: device-side assert triggered")
        elif batch.how == "never_fits" or len(batch.positions) > 1:
            raise OutOfDeviceMemory("the batch did not fit on the device")


def _eat_memory() -> None:
    eaten = []
    while len(eaten) * BITE_BYTES < EATS_MOST_BYTES:
        eaten.append(b"x" * BITE_BYTES)
        time.sleep(0.005)
    time.sleep(HELD_S)


if __name__ == "__main__":
    registry.EchoEngine = BreakingEngine  # type: ignore[misc]
    sys.exit(gpu.main())
