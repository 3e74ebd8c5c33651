"""The Kubernetes manifests name what the code has: its metric, its queues, its options, its settings."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.fleet_metrics import WANTED_WORKERS
from config.models import load_models
from config.queues import POLICY_PATTERN, pool_of
from config.settings import PREFIX, Settings, is_queue_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "k8s" / "base"
LONGEST_CHUNK_S = 60
"""At the 99th percentile, by the design; what comes above it is only tidier to wait for."""
MOST_QUEUES = 1_000


@cache
def _documents() -> list[dict[str, Any]]:
    resources = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [document for name in resources for document in yaml.safe_load_all((FOLDER / name).read_text())]


def _the(kind: str) -> dict[str, Any]:
    (found,) = [document for document in _documents() if document["kind"] == kind]
    return found


@pytest.fixture
def worker() -> dict[str, Any]:
    """The container of a GPU worker."""
    (container,) = _the("StatefulSet")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _queue(worker: dict[str, Any], ordinal: int) -> str:
    command = worker["command"]
    return str(command[command.index("--queue") + 1]).replace("$(POD_INDEX)", str(ordinal))


def test_the_set_selects_its_own_pods() -> None:
    spec = _the("StatefulSet")["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert "replicas" not in spec, "it would fight with the autoscaler at every apply"


@pytest.mark.parametrize("ordinal", [0, 1, 17, MOST_QUEUES - 1])
def test_the_ordinal_of_a_pod_names_a_queue_that_the_policy_covers(worker: dict[str, Any], ordinal: int) -> None:
    queue = _queue(worker, ordinal)
    assert is_queue_name(queue)
    assert re.match(POLICY_PATTERN, queue)
    assert any(pool_of(queue) in model.pools for model in load_models(ROOT / "config" / "models.yaml").values())


def test_the_command_is_one_that_the_worker_takes(worker: dict[str, Any]) -> None:
    _, *arguments = (argument.replace("$(POD_INDEX)", "3") for argument in worker["command"])
    asked = subprocess.run(
        [sys.executable, *arguments, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert asked.returncode == 0, asked.stderr
    refused = subprocess.run(
        [sys.executable, *arguments, "--no-such-option"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert "unrecognized arguments: --no-such-option" in refused.stderr


def test_the_environment_names_settings_that_there_are(worker: dict[str, Any]) -> None:
    known = {PREFIX + spec.name.upper() for spec in dataclasses.fields(Settings)}
    named = {variable["name"] for variable in worker["env"]}
    assert named - {"POD_INDEX"} <= known
    assert "POD_INDEX" in named


def test_a_worker_has_time_to_end_its_chunk() -> None:
    assert _the("StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > LONGEST_CHUNK_S


def test_the_autoscaler_follows_the_metric_that_is_exported_for_the_pool_it_scales(worker: dict[str, Any]) -> None:
    scaled, target = _the("ScaledObject")["spec"], _the("StatefulSet")
    reference = scaled["scaleTargetRef"]
    named = (target["apiVersion"], target["kind"], target["metadata"]["name"])
    assert (reference["apiVersion"], reference["kind"], reference["name"]) == named
    (trigger,) = scaled["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    query = re.fullmatch(r'max\((\w+)\{pool="(\w+)"\}\)', trigger["metadata"]["query"])
    assert query is not None
    assert query.groups() == (WANTED_WORKERS, pool_of(_queue(worker, 0)))
    # One wanted worker is one replica, and none wanted is none.
    assert (trigger["metadata"]["threshold"], trigger["metadata"]["activationThreshold"]) == ("1", "0")


def test_the_bounds_of_the_autoscaler_are_those_of_the_settings() -> None:
    scaled = _the("ScaledObject")["spec"]
    defaults = {spec.name: spec.default for spec in dataclasses.fields(Settings)}
    assert scaled["minReplicaCount"] == defaults["scale_min_workers"]
    assert scaled["maxReplicaCount"] == defaults["scale_max_workers"] <= MOST_QUEUES
