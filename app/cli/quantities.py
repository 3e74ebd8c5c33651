"""Amounts as people write them on the command line: ``500GB``, ``30d``, ``2.5``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import click

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SIZES = {"": 1, "B": 1, **{f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", 1)}}
_BINARY_SIZES = {f"{letter}IB": 1024**power for power, letter in enumerate("KMGTP", 1)}
_SIZE_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TIMES = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86_400}


class Quantity(click.ParamType[int]):
    """A number with a unit; gives whole bytes, or whole seconds."""

    def __init__(self, name: str, units: Mapping[str, int], example: str) -> None:
        self.name = name
        self._units = units
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        match = _AMOUNT.fullmatch(str(value).strip())
        factor = self._units.get(match[2].upper()) if match else None
        if match is None or factor is None:
            self.fail(f"{value!r} is no {self.name}; write for example {self._example}", param, ctx)
        return round(float(match[1]) * factor)


class FiniteNumber(click.ParamType[float]):
    """A number that JSON can carry: neither NaN nor infinite."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        number: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


SIZE = Quantity("size", {**_SIZES, **_BINARY_SIZES}, "500GB, 2TiB or bytes")
DURATION = Quantity("duration", _TIMES, "90s, 12h, 30d or seconds")
NUMBER = FiniteNumber()


def size_text(size_bytes: int) -> str:
    """Bytes for people: ``1.5 GiB``."""
    power = min(max(size_bytes.bit_length() - 1, 0) // 10, len(_SIZE_NAMES) - 1)
    return f"{size_bytes / 1024**power:.4g} {_SIZE_NAMES[power]}"


def duration_text(seconds: int) -> str:
    """Seconds for people, in the largest unit that keeps them whole: ``30d``."""
    unit = next(unit for unit in ("D", "H", "M", "S") if seconds % _TIMES[unit] == 0)
    return f"{seconds // _TIMES[unit]}{unit.lower()}"
