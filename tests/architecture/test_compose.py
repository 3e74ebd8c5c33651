"""docker/compose.yml is valid, runs what the code needs, and names only what the code has."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from composed import FOLDER, read_compose, required_variables

from app.api import health
from app.cli.root import main as cli
from config.queues import (
    CONTROL_QUEUE,
    DEAD_LETTER_QUEUE,
    POLICY_DEFINITION,
    POLICY_NAME,
    POLICY_PATTERN,
    WEBHOOK_QUEUE,
    all_queues,
    pool_of,
    sync_queue,
)
from config.settings import PREFIX, Settings

CPU = ("compose.yml",)
GPU = ("compose.yml", "compose.gpu.yml")
EXAMPLE = FOLDER / "compose.env.example"
OUR_IMAGES = ("nightshift-api", "nightshift-worker")
PASSED_ON = {"NIGHTSHIFT_OWNER_PASSWORD", "NIGHTSHIFT_APP_PASSWORD"}
"""Variables of the same prefix that are for Postgres's own entrypoint."""

both = pytest.mark.parametrize("files", [CPU, GPU], ids=["cpu", "gpu"])


def _variables(files: tuple[str, ...]) -> dict[str, str]:
    given = dict.fromkeys(required_variables(*files), "S3cret")
    return {**given, "NIGHTSHIFT_POOL": "gpu"} if files == GPU else given


def _compose(files: tuple[str, ...]) -> dict[str, Any]:
    return read_compose(*files, variables=_variables(files))


def _our_services(files: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    services = _compose(files)["services"]
    return {name: service for name, service in services.items() if service["image"].startswith(OUR_IMAGES)}


def _settings(service: dict[str, Any]) -> Settings:
    return Settings.from_environ(service["environment"])


@both
def test_the_file_is_valid_by_the_compose_specification(files: tuple[str, ...]) -> None:
    written = PyCompose.from_yaml(yaml.safe_dump(_compose(files)))
    assert set(written.service_names()) == set(_compose(files)["services"])


def test_a_mistake_in_the_file_is_found() -> None:
    broken = _compose(CPU)
    broken["services"]["api"]["healthcheck"]["intervall"] = "5s"
    with pytest.raises(ValueError, match="intervall"):
        PyCompose.from_yaml(yaml.safe_dump(broken))


@both
def test_every_queue_has_a_consumer(files: tuple[str, ...]) -> None:
    services = _our_services(files)
    commands = [service.get("command", []) for service in services.values()]
    read = {command[command.index("-Q") + 1] for command in commands if "-Q" in command}
    pinned = [command[command.index("--queue") + 1] for command in commands if "--queue" in command]
    lanes = {sync_queue(pool_of(queue)) for queue in pinned}
    ticks = {DEAD_LETTER_QUEUE} if any("beat" in command for command in commands) else set()
    wanted = all_queues(_settings(services["migrate"]).queues)
    assert {CONTROL_QUEUE, WEBHOOK_QUEUE} <= read
    assert {queue.name for queue in wanted} == {*read, *pinned, *lanes, *ticks}
    assert len(pinned) == len(set(pinned)), "a queue has one worker"


@both
def test_every_process_reads_settings_that_there_are_and_gets_all_it_needs(files: tuple[str, ...]) -> None:
    known = {PREFIX + spec.name.upper() for spec in dataclasses.fields(Settings)}
    for name, service in _our_services(files).items():
        _settings(service)
        named = {variable for variable in service["environment"] if variable.startswith(PREFIX)}
        assert named - known == set(), name


@both
def test_all_processes_work_for_one_installation(files: tuple[str, ...]) -> None:
    services = _our_services(files)
    own = {"NIGHTSHIFT_DATABASE_URL", "NIGHTSHIFT_BROKER_API_URL"}
    shared = [
        {k: v for k, v in service["environment"].items() if k.startswith(PREFIX) and k not in own}
        for service in services.values()
    ]
    assert all(settings == shared[0] for settings in shared)


def test_only_the_migration_may_change_tables_and_only_it_and_the_dispatchers_the_policy() -> None:
    services = _our_services(CPU)
    owners = {name for name, service in services.items() if "nightshift_owner" in str(service["environment"])}
    policymakers = {name for name, service in services.items() if _settings(service).broker_api_url}
    assert owners == {"migrate"}
    assert policymakers == {"migrate", "dispatcher-a", "dispatcher-b"}


def test_the_broker_gets_the_policy_of_the_code_and_has_no_guest() -> None:
    definitions = json.loads(_compose(CPU)["configs"]["rabbitmq-definitions"]["content"])
    (policy,) = definitions["policies"]
    assert (policy["name"], policy["pattern"], policy["definition"]) == (
        POLICY_NAME,
        POLICY_PATTERN,
        POLICY_DEFINITION,
    )
    assert {user["name"]: user["tags"] for user in definitions["users"]} == {
        "nightshift": "",
        "nightshift-topology": "policymaker,monitoring",
        "flower": "monitoring",
    }
    assert "guest" not in json.dumps(_compose(CPU))


@both
def test_every_service_that_stays_has_a_health_check_and_restarts(files: tuple[str, ...]) -> None:
    for name, service in _compose(files)["services"].items():
        if service["restart"] == "on-failure":  # it ends by itself
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name


def test_the_health_checks_of_the_api_ask_a_route_that_there_is() -> None:
    asked = re.findall(r"127\.0\.0\.1:8000(/\w+)", str(_our_services(CPU)["api"]["healthcheck"]["test"]))
    assert asked == ["/readyz"]
    assert callable(health.readyz)


@both
def test_a_workers_health_check_asks_the_worker_itself(files: tuple[str, ...]) -> None:
    for name, service in _our_services(files).items():
        test, command = service.get("healthcheck", {}).get("test", []), service.get("command", [])
        if "inspect" not in test:
            continue
        queue = command[command.index("-Q" if "-Q" in command else "--queue") + 1]
        assert test[test.index("--destination") + 1] == f"{queue}@{service['hostname']}", name


def test_each_gpu_worker_has_one_device_of_its_own() -> None:
    workers = {name: service for name, service in _our_services(GPU).items() if name.startswith("worker-")}
    pinned = {}
    for name, service in workers.items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        (pinned[name],) = device["device_ids"]
        assert device["capabilities"] == ["gpu"]
        assert service["command"][-2:] == ["--device", "0"]
        assert service["build"]["args"] == {"TORCH_INDEX": ""}
    assert len(set(pinned.values())) == len(workers) == 2


def test_the_example_of_the_variables_is_complete_and_holds_no_secret() -> None:
    lines = [line.split("=", 1) for line in EXAMPLE.read_text("utf-8").splitlines() if line and line[0] != "#"]
    given = dict(lines)
    assert required_variables(*CPU) <= given.keys()
    assert {name for name, value in given.items() if value} == {"NIGHTSHIFT_PUBLIC_URL"}


def test_no_secret_is_written_into_the_file() -> None:
    text = (FOLDER / "compose.yml").read_text("utf-8")
    secrets = re.findall(r"(?i)(?:password|secret_key|pepper|admin_key)\"?: (\S+)", text)
    assert [value for value in secrets if "${" not in value] == []


def test_no_port_is_open_beyond_this_host_unless_asked_for() -> None:
    for name, service in _compose(CPU)["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_what_is_mounted_lies_in_the_checkout() -> None:
    mounted = re.findall(r"\./([\w./-]+):/", (FOLDER / "compose.yml").read_text("utf-8"))
    assert {name for name in mounted if name != "monitoring" and not (FOLDER / name).exists()} == set()


def test_the_commands_of_nightshift_exist() -> None:
    text = " ".join(str(service.get("command")) for service in _our_services(CPU).values())
    assert set(re.findall(r"nightshift ([a-z]+)", text)) <= cli.commands.keys()


@both
def test_our_processes_are_least_privileged_and_other_images_pinned(files: tuple[str, ...]) -> None:
    for name, service in _compose(files)["services"].items():
        if name in _our_services(files):
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
            assert Path(FOLDER / ".." / service["build"]["dockerfile"]).is_file()
        else:
            assert re.search(r":[^:]*[0-9]+[.-][0-9]+", service["image"]), f"{name} names no exact version"


def test_the_policy_of_the_object_store_is_for_one_bucket() -> None:
    policy = json.loads((FOLDER / "s3" / "policy.json").read_text("utf-8"))
    named = {resource for statement in policy["Statement"] for resource in statement["Resource"]}
    assert named == {"arn:aws:s3:::nightshift", "arn:aws:s3:::nightshift/*"}
    assert all("*" not in action for statement in policy["Statement"] for action in statement["Action"])
