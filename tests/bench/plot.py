"""Throughput against the size of a job, as an SVG without any library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tests.bench.history import History

PREFIX = "size."
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 360, 80, 50, 20, 20
_STYLE = "font-family='sans-serif' font-size='12' fill='#333'"

Point = tuple[float, float]


def write_plot(history: History, path: Path) -> bool:
    """Draw items per second over items, both logarithmic; whether there was something to draw."""
    points = sorted(
        (float(key.removeprefix(PREFIX)), measured.row.value)
        for key, measured in history.measured.items()
        if key.startswith(PREFIX)
    )
    if len(points) > 1:
        path.write_text(draw(points, x="items in the job", y="items per second"), encoding="utf-8")
    return len(points) > 1


def draw(points: Sequence[Point], *, x: str, y: str) -> str:
    """One line through ``points``, with a grid at the powers of ten."""
    lows = [math.floor(math.log10(min(values))) for values in zip(*points, strict=True)]
    highs = [
        max(low + 1, math.ceil(math.log10(max(values))))
        for low, values in zip(lows, zip(*points, strict=True), strict=True)
    ]

    def place(point: Point) -> Point:
        shares = [(math.log10(value) - low) / (high - low) for value, low, high in zip(point, lows, highs, strict=True)]
        return (
            _LEFT + shares[0] * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - shares[1] * (_HEIGHT - _BOTTOM - _TOP),
        )

    grid = [_vertical(place((10.0**power, 10.0 ** lows[1])), power) for power in range(lows[0], highs[0] + 1)]
    grid += [_horizontal(place((10.0 ** lows[0], 10.0**power)), power) for power in range(lows[1], highs[1] + 1)]
    line = " ".join(f"{left:.1f},{top:.1f}" for left, top in map(place, points))
    dots = [f"<circle cx='{left:.1f}' cy='{top:.1f}' r='3.5' fill='#1f5fa8'/>" for left, top in map(place, points)]
    middle_x, middle_y = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    body = [
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#fff'/>",
        *grid,
        f"<polyline points='{line}' fill='none' stroke='#1f5fa8' stroke-width='2'/>",
        *dots,
        f"<text x='{middle_x}' y='{_HEIGHT - 10}' text-anchor='middle' {_STYLE}>{x}</text>",
        f"<text x='16' y='{middle_y}' text-anchor='middle' transform='rotate(-90 16 {middle_y})' {_STYLE}>{y}</text>",
    ]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}'>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _vertical(place: Point, power: int) -> str:
    left = place[0]
    label = f"<text x='{left}' y='{_HEIGHT - _BOTTOM + 18}' text-anchor='middle' {_STYLE}>{10**power:,}</text>"
    return f"<line x1='{left}' y1='{_TOP}' x2='{left}' y2='{_HEIGHT - _BOTTOM}' stroke='#ddd'/>{label}"


def _horizontal(place: Point, power: int) -> str:
    top = place[1]
    label = f"<text x='{_LEFT - 8}' y='{top + 4}' text-anchor='end' {_STYLE}>{10**power:,}</text>"
    return f"<line x1='{_LEFT}' y1='{top}' x2='{_WIDTH - _RIGHT}' y2='{top}' stroke='#ddd'/>{label}"
