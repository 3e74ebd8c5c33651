"""The metrics that the code makes, read from its source: for tests that compare them with what names them elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

APP = Path(__file__).parents[1] / "app"
PREFIX = "nightshift_"
_SUFFIXES = {
    "Counter": ("_total",),
    "CounterMetricFamily": ("_total",),
    "Histogram": ("_bucket", "_sum", "_count"),
    "HistogramMetricFamily": ("_bucket", "_sum", "_count"),
    "GaugeMetricFamily": ("",),
}
_TYPES = {"Counter": "counter", "Histogram": "histogram", "Gauge": "gauge"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeMetric:
    """One metric."""

    name: str
    """As Prometheus shows it in HELP and TYPE; a counter's without ``_total``."""
    type: str
    labels: frozenset[str]
    series: frozenset[str]
    """Names by which its samples are asked for."""

    @property
    def shown_name(self) -> str:
        """As people write it."""
        return f"{self.name}_total" if self.type == "counter" else self.name


def made_metrics() -> dict[str, MadeMetric]:
    """Every metric of the code, by the name that people write."""
    made = [
        metric for path in sorted(APP.glob("*metrics*.py")) for metric in _made_in(ast.parse(path.read_text("utf-8")))
    ]
    return {metric.shown_name: metric for metric in made}


def _made_in(tree: ast.Module) -> Iterator[MadeMetric]:
    constants = {
        target.id: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _is_plain(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SUFFIXES:
            yield _metric(node, node.func.id, constants)


def _is_plain(node: ast.expr) -> bool:
    """Whether it is text, or a list of nothing else."""
    parts = node.elts if isinstance(node, ast.List) else [node]
    return all(isinstance(part, ast.Constant) for part in parts)


def _metric(call: ast.Call, kind: str, constants: dict[str, object]) -> MadeMetric:
    name = _value(call.args[0], constants)
    assert isinstance(name, str)
    given = [word.value for word in call.keywords if word.arg == "labels"] + call.args[2:3]
    labels = _value(given[0], constants) if given else []
    assert isinstance(labels, list)
    return MadeMetric(
        name=name,
        type=next(shown for begin, shown in _TYPES.items() if kind.startswith(begin)),
        labels=frozenset(labels),
        series=frozenset(f"{name}{suffix}" for suffix in _SUFFIXES[kind]),
    )


def _value(node: ast.expr, constants: dict[str, object]) -> object:
    return constants[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
