"""The manifests in docker/k8s are valid, fit together and name what the code has. Their workers: test_kubernetes.py."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from test_routes import NOWHERE

from app.cli.root import main as cli
from app.factory import create_app
from app.wiring import build_wiring
from config.queues import CONTROL_QUEUE, WEBHOOK_QUEUE
from config.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
BASE = ROOT / "docker" / "k8s" / "base"
EXAMPLE = ROOT / "docker" / "k8s" / "example"
VERSION = "1.33"
WITHOUT_SCHEMA = ("keda.sh/v1alpha1", "kustomize.config.k8s.io/v1beta1")
LONGEST_STOP_S = {"api": 15, "control": 20, "webhooks": 20, "gpu-worker": 60}
"""gunicorn's grace with the pause before it; what the local stack grants; the longest chunk."""


@cache
def _load(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def _resources(folder: Path) -> list[Path]:
    named = _load(folder / "kustomization.yaml")[0]["resources"]
    return [folder / name for name in named if name.endswith(".yaml")]


def _objects(kind: str | None = None) -> list[dict[str, Any]]:
    found = chain.from_iterable(_load(path) for path in [*_resources(BASE), *_resources(EXAMPLE)])
    return [document for document in found if kind in (None, document["kind"])]


def _workloads() -> dict[str, dict[str, Any]]:
    """Pod templates by component."""
    found = [*_objects("Deployment"), *_objects("StatefulSet"), *_objects("Job")]
    return {workload["metadata"]["labels"]["app.kubernetes.io/component"]: workload for workload in found}


def _pod(workload: dict[str, Any]) -> dict[str, Any]:
    return dict(workload["spec"]["template"]["spec"])


def _container(component: str) -> dict[str, Any]:
    (container,) = _pod(_workloads()[component])["containers"]
    return dict(container)


def _environment(component: str) -> dict[str, str]:
    """What a container finds in its environment; of two sources of a variable the later wins."""
    sources = {("configMapRef", one["metadata"]["name"]): dict(one["data"]) for one in _objects("ConfigMap")}
    (patch,) = _load(EXAMPLE / "settings.yaml")
    sources["configMapRef", patch["metadata"]["name"]] |= patch["data"]
    sources |= {("secretRef", one["metadata"]["name"]): one["stringData"] for one in _objects("Secret")}
    container, found = _container(component), {}
    for source in container["envFrom"]:
        ((kind, reference),) = source.items()
        found |= sources[kind, reference["name"]]
    return found | {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


every_component = pytest.mark.parametrize("component", sorted(_workloads()))


@pytest.mark.parametrize("path", sorted([*BASE.glob("*.yaml"), *EXAMPLE.glob("*.yaml")]), ids=lambda path: path.stem)
def test_every_manifest_fits_the_schema_of_kubernetes(path: Path) -> None:
    for document in _load(path):
        if document["apiVersion"] in WITHOUT_SCHEMA or path.name == "nodes.yaml":
            continue
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_a_mistake_in_a_manifest_is_found() -> None:
    broken = copy.deepcopy(_workloads()["api"])
    broken["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(broken, VERSION, strict=True)


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=["base", "example"])
def test_every_file_is_used(folder: Path) -> None:
    (kustomization,) = _load(folder / "kustomization.yaml")
    patches = {patch["path"] for patch in kustomization.get("patches", [])}
    named = {path.name for path in _resources(folder)} | patches | {"kustomization.yaml"}
    assert named == {path.name for path in folder.glob("*.yaml")}


def test_what_the_example_changes_is_there() -> None:
    (kustomization,) = _load(EXAMPLE / "kustomization.yaml")
    there = {(one["kind"], one["metadata"]["name"]) for one in _objects()}
    for patch in kustomization["patches"]:
        for document in _load(EXAMPLE / patch["path"]):
            assert (document["kind"], document["metadata"]["name"]) in there
    assert {image["name"] for image in kustomization["images"]} == {_container(name)["image"] for name in _workloads()}


def test_every_process_of_nightshift_has_its_pods() -> None:
    commands = {name: _container(name).get("command", []) for name in _workloads()}
    read = {command[command.index("-Q") + 1] for command in commands.values() if "-Q" in command}
    assert read == {CONTROL_QUEUE, WEBHOOK_QUEUE}
    assert commands.keys() == {
        *("api", "beat", "control", "dispatcher", "flower", "gpu-worker", "migrate", "webhooks"),
    }


@every_component
def test_the_environment_is_complete_and_names_settings_that_there_are(component: str) -> None:
    environment = _environment(component)
    known = {PREFIX + spec.name.upper() for spec in dataclasses.fields(Settings)}
    assert {name for name in environment if name.startswith(PREFIX)} - known == set()
    Settings.from_environ({**environment, "NIGHTSHIFT_QUEUES": "gpu.0"})


def test_the_secrets_of_the_example_hold_no_secret() -> None:
    values = chain.from_iterable(secret["stringData"].values() for secret in _objects("Secret"))
    assert [value for value in values if "CHANGE-ME" not in value] == []


def test_only_the_migration_owns_tables_and_only_it_and_the_dispatchers_may_set_the_policy() -> None:
    names = _workloads()
    owners = {name for name in names if "nightshift_owner" in _environment(name)["NIGHTSHIFT_DATABASE_URL"]}
    policymakers = {name for name in names if "NIGHTSHIFT_BROKER_API_URL" in _environment(name)}
    assert owners == {"migrate"}
    assert policymakers == {"migrate", "dispatcher"}


@every_component
def test_a_pod_runs_as_nobody_in_particular_and_may_do_nothing(component: str) -> None:
    pod, container = _pod(_workloads()[component]), _container(component)
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


@every_component
def test_what_a_container_mounts_its_pod_has(component: str) -> None:
    mounted = {mount["name"] for mount in _container(component)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in _pod(_workloads()[component])["volumes"]}


def test_every_selector_finds_pods_of_one_component() -> None:
    labels = {name: workload["spec"]["template"]["metadata"]["labels"] for name, workload in _workloads().items()}
    selectors = [one["spec"]["selector"] for one in _objects("Service")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in _objects("PodDisruptionBudget")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in [*_objects("Deployment"), *_objects("StatefulSet")]]
    assert selectors
    for selector in selectors:
        assert [name for name, label in labels.items() if selector.items() <= label.items()] == [
            selector["app.kubernetes.io/component"]
        ]


def _probes(component: str) -> Iterator[dict[str, Any]]:
    container = _container(component)
    yield from (container[name] for name in ("startupProbe", "livenessProbe", "readinessProbe") if name in container)


@every_component
def test_a_probe_asks_a_port_that_the_container_has(component: str) -> None:
    ports = {port["name"] for port in _container(component).get("ports", [])}
    asked = {
        check["port"]
        for probe in _probes(component)
        for check in probe.values()
        if isinstance(check, dict) and "port" in check
    }
    assert asked <= ports
    assert list(_probes(component)) or component == "migrate"


def test_the_probes_of_the_api_ask_routes_that_there_are_and_liveness_asks_no_server() -> None:
    client = create_app(build_wiring(NOWHERE)).test_client()
    container = _container("api")
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert client.get(paths["livenessProbe"]).status_code == client.get(paths["startupProbe"]).status_code == 200
    assert client.get(paths["readinessProbe"]).status_code == 503


@every_component
def test_nothing_but_the_api_and_beat_is_restarted_for_what_it_answers(component: str) -> None:
    assert ("livenessProbe" in _container(component)) == (component in {"api", "beat"})


@pytest.mark.parametrize(("component", "longest_s"), LONGEST_STOP_S.items())
def test_a_pod_has_time_to_end(component: str, longest_s: int) -> None:
    assert _pod(_workloads()[component])["terminationGracePeriodSeconds"] > longest_s


def test_a_service_leads_to_a_port_of_its_pods_and_a_policy_opens_only_such() -> None:
    for service in _objects("Service"):
        component = service["spec"]["selector"]["app.kubernetes.io/component"]
        ports = {port["name"] for port in _container(component).get("ports", [])}
        assert {port["targetPort"] for port in service["spec"].get("ports", [])} <= ports
    for policy in _objects("NetworkPolicy"):
        component = policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        opened = {port["port"] for rule in policy["spec"].get("ingress", []) for port in rule["ports"]}
        ports = _container(component).get("ports", []) if component else []
        assert opened <= {port["containerPort"] for port in ports}


def test_every_pod_is_closed_unless_a_policy_opens_it() -> None:
    (closed,) = [one for one in _objects("NetworkPolicy") if one["metadata"]["name"] == "nightshift-nothing"]
    assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed["spec"]
    for workload in _workloads().values():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert closed["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_commands_exist() -> None:
    named = {str(_container(name).get("command")) for name in _workloads()}
    assert set(re.findall(r"nightshift ([a-z]+)", " ".join(named))) <= cli.commands.keys()
    modules = re.findall(r"'-m', '([\w.]+)'", " ".join(named))
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []
