"""Rules, dashboard, metrics and runbooks fit each other; ``make monitoring-check`` asks promtool for the rest."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from documentation import ROOT
from metric_names import made_metrics

FOLDER = ROOT / "docker" / "monitoring"
RUNBOOKS = ROOT / "docs" / "operations.md"
_METRIC = re.compile(r"\bnightshift_[a-z_]+")
_RECORDED = re.compile(r"\bnightshift:[a-z0-9_:]+")
_BY = re.compile(r"\b(?:by|on|without) \(([^)]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')


def _groups() -> list[dict[str, Any]]:
    return list(yaml.safe_load((FOLDER / "rules.yml").read_text("utf-8"))["groups"])


RULES = [rule for group in _groups() for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
PANELS = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))["panels"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in PANELS for target in panel.get("targets", ())
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_only_metrics_and_labels_that_there_are(expression: str) -> None:
    by_series = {series: metric for metric in made_metrics().values() for series in metric.series}
    named = set(_METRIC.findall(expression))
    assert named <= by_series.keys()
    assert set(_RECORDED.findall(expression)) <= RECORDED
    labels = {"le", *(label for name in named for label in by_series[name].labels)}
    grouped = {label.strip() for found in _BY.findall(expression) for label in found.split(",") if label.strip()}
    assert grouped | set(_MATCHER.findall(expression)) <= labels


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^### (Nightshift\w+)$", RUNBOOKS.read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    tests = yaml.safe_load((FOLDER / "rules.test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == ALERTS.keys()
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == ALERTS.keys()


def test_panels_of_the_dashboard_have_an_id_and_a_place_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(column, line) for column in columns for line in lines}
        assert not cells & taken, panel["title"]
        assert max(columns) < 24
        taken |= cells


def test_prometheus_asks_the_dispatchers_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yml").read_text("utf-8"))["services"]
    (scrape,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    asked = {target.partition(":")[0] for static in scrape["static_configs"] for target in static["targets"]}
    assert asked == {name for name in services if name.startswith("dispatcher")}
