"""How many tokens a pass should hold on this device: measured once for a model on a machine, and kept.

Too few tokens leave the device waiting for Python, too many fall out of its caches; where the best lies differs from
machine to machine. Of those that are about equally fast the smallest is taken, because synchronous requests wait for
a pass.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.errors import OutOfDeviceMemory

log = structlog.get_logger(__name__)

GOOD_ENOUGH = 0.97
"""Share of the best rate from which a smaller pass is preferred."""
N_TURNS = 3
SHORTEST_S = 1e-9


@dataclass(frozen=True, slots=True)
class PassSizes:
    """Where the sizes measured on this machine are kept."""

    folder: Path | None
    """None: nothing is measured, engines keep their default."""

    def best(
        self,
        *,
        names: Sequence[str],
        candidates: Sequence[int],
        run: Callable[[int], int],
        clock: Callable[[], float] = time.perf_counter,
    ) -> int | None:
        """The best size of a pass, from an earlier start or measured now; None where nothing is measured.

        Args:
            names: everything that the answer depends on: model, version, device, libraries.
            candidates: tokens of a pass, ascending.
            run: takes one pass of about so many tokens and returns how many they were.
            clock: seconds; on a CPU the process's own, which what else the machine does hardly touches.
        """
        if self.folder is None:
            return None
        path = self.folder / f"{hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:24]}.json"
        kept = _read(path)
        if kept in candidates:
            return kept
        rates = measure_rates(candidates, run, clock)
        best = smallest_good(rates)
        log.info("pass_size_measured", names=list(names), tokens_per_pass=best, rates=rates)
        _keep(path, {"tokens_per_pass": best, "tokens_per_s": rates, "names": list(names)})
        return best


NOT_MEASURED = PassSizes(None)
"""For tests and tools: engines keep their default."""


def measure_rates(candidates: Sequence[int], run: Callable[[int], int], clock: Callable[[], float]) -> dict[int, float]:
    """Tokens per second of each size, by its fastest pass; sizes that do not fit on the device are left out.

    Sizes take turns, so that what else the machine does slows down all of them.
    """
    fitting = _fitting(candidates, run)
    turns = [{size: _rate_of(run, size, clock) for size in fitting} for _ in range(N_TURNS)]
    return {size: max(turn[size] for turn in turns) for size in fitting}


def _fitting(candidates: Sequence[int], run: Callable[[int], int]) -> list[int]:
    """Take each size once, which also has the libraries make what they keep for its shape."""
    fitting: list[int] = []
    for size in candidates:
        try:
            run(size)
        except OutOfDeviceMemory:
            break
        fitting.append(size)
    return fitting


def smallest_good(rates: Mapping[int, float]) -> int:
    """The smallest size that is about as fast as the fastest.

    Raises:
        OutOfDeviceMemory: there is none, not even the smallest fits.
    """
    if not rates:
        raise OutOfDeviceMemory("not even the smallest pass fits on the device")
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= GOOD_ENOUGH * best)


def _rate_of(run: Callable[[int], int], size: int, clock: Callable[[], float]) -> float:
    started_s = clock()
    n_tokens = run(size)
    return n_tokens / max(clock() - started_s, SHORTEST_S)


def _read(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["tokens_per_pass"])
    except (OSError, ValueError, KeyError, TypeError):  # never measured, or not by us
        return None


def _keep(path: Path, found: Mapping[str, object]) -> None:
    """Write whole or not at all: workers of one machine may measure at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(found) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        log.warning("pass_size_not_kept", path=str(path), error=str(error))
