"""What the real processes tell of a job: one trace, log lines, and reports of bugs; never a payload nor a secret."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest
import yaml
from api_process import api_process
from core_machine import fresh_database
from otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from sentry_receiver import SentryReceiver, sentry_receiver

from app.db.migrate import upgrade
from app.services.create_api_key import create_api_key
from app.wiring import build_wiring
from config.settings import Settings

ROOT = Path(__file__).parents[2]
QUEUE = "cpu.77"
CLIENT_TRACE, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET_TEXT = "a text that only its owner may read"
_CELERY = [sys.executable, "-m", "celery", "-A", "tasks.celery_app", "worker"]
_PROCESSES: Mapping[str, Sequence[str]] = {
    "control": [*_CELERY, "-Q", "control", "-n", "control@traces", "-P", "prefork", "-c", "1"],
    "dispatcher": [sys.executable, "-m", "workers.dispatcher"],
    QUEUE: [sys.executable, "-m", "workers.gpu", "--queue", QUEUE],
}


@contextmanager
def _process(name: str, argv: Sequence[str], settings: Mapping[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(40)


def _echo_alone(folder: Path) -> Path:
    """A models file with nothing that takes time to load."""
    models = yaml.safe_load((ROOT / "config" / "models.yaml").read_text("utf-8"))["models"]
    file = folder / "models.yaml"
    file.write_text(yaml.safe_dump({"models": [model for model in models if model["alias"] == "echo"]}), "utf-8")
    return file


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def sentry() -> Iterator[SentryReceiver]:
    with sentry_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes write their logs."""
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def client(
    servers: dict[str, str], collector: OtlpReceiver, sentry: SentryReceiver, folder: Path
) -> Iterator[httpx.Client]:
    """A tenant's client of an installation of its own, all of whose processes trace and report."""
    with fresh_database(Settings.from_environ(servers)) as url, ExitStack() as processes:
        settings = {
            **servers,
            "NIGHTSHIFT_DATABASE_URL": url,
            "NIGHTSHIFT_OTLP_ENDPOINT": collector.endpoint,
            "NIGHTSHIFT_SENTRY_DSN": sentry.dsn,
            "NIGHTSHIFT_QUEUES": QUEUE,
            "NIGHTSHIFT_MODELS_FILE": str(_echo_alone(folder)),
            "NIGHTSHIFT_METRICS_BIND": "127.0.0.1:0",
        }
        own = replace(Settings.from_environ(settings), database_url=url)
        upgrade(own)
        wiring = build_wiring(own)
        key = create_api_key(wiring=wiring, tenant="tracer").key
        wiring.database.close()
        for name, argv in _PROCESSES.items():
            processes.enter_context(_process(name, argv, settings, folder))
        address = processes.enter_context(api_process(settings, folder))
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False) as made:
            yield made


def _ended(client: httpx.Client, job_id: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        state: str = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()["state"]
        if state in {"succeeded", "failed", "partially_succeeded"}:
            return state
        assert time.monotonic() < deadline, f"the job is still {state}"
        time.sleep(0.2)


def _of_trace(trace_id: str, spans: Sequence[ReceivedSpan]) -> dict[str, ReceivedSpan]:
    """The spans of one trace, the last of each name."""
    return {span.name: span for span in spans if span.trace_id == trace_id}


def _ancestors(span: ReceivedSpan, spans: Sequence[ReceivedSpan]) -> list[str]:
    by_id = {each.span_id: each for each in spans}
    names = []
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        names.append(f"{span.process.removeprefix('nightshift-')}: {span.name}")
    return [*names, span.parent_id]


def test_a_job_is_one_trace_from_the_clients_request_to_the_callback(
    client: httpx.Client, collector: OtlpReceiver
) -> None:
    body = {"endpoint": "/v1/echo", "model": "echo", "inputs": [f"{SECRET_TEXT} {n}" for n in range(20)]}
    traced = {"traceparent": f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"}
    job_id = client.post("/v1/jobs", json=body, headers=traced).raise_for_status().json()["id"]
    assert _ended(client, job_id) == "succeeded"

    stages = {"read", "prepare", "forward", "upload"}
    expected = {"chunk", "nightshift.prepare_job", "nightshift.finish_wave", *stages}
    spans = collector.wait_for(lambda spans: expected <= _of_trace(CLIENT_TRACE, spans).keys())

    found = _of_trace(CLIENT_TRACE, spans)
    submitted = ["api: POST /v1/jobs", CLIENT_SPAN]
    task = [f"{QUEUE}: nightshift.run_chunk", "dispatcher: dispatch wave", *submitted]
    assert _ancestors(found["nightshift.prepare_job"], spans) == ["dispatcher: dispatch prepare", *submitted]
    assert _ancestors(found["chunk"], spans) == task
    assert {name: _ancestors(found[name], spans) for name in stages} == {
        name: [f"{QUEUE}: chunk", *task] for name in stages
    }
    # The chord's body, or the dispatcher where Redis lost the chord.
    assert _ancestors(found["nightshift.finish_wave"], spans)[0] in {
        "dispatcher: dispatch wave",
        "dispatcher: dispatch finish",
    }
    assert found["chunk"].attributes["nightshift.job_id"] == job_id
    assert found["chunk"].attributes["nightshift.ran"] == "done"
    assert not any(SECRET_TEXT.encode() in body for body in collector.bodies)


def test_a_request_without_a_trace_begins_one_and_says_how_it_ended(
    client: httpx.Client, collector: OtlpReceiver
) -> None:
    assert client.get("/v1/jobs/job_that_is_not_there?token=hush").status_code == 404

    def arrived(spans: list[ReceivedSpan]) -> bool:
        return any(span.attributes.get("http.response.status_code") == "404" for span in spans)

    (refused,) = [
        span for span in collector.wait_for(arrived) if span.attributes.get("http.response.status_code") == "404"
    ]
    assert (refused.process, refused.parent_id) == ("nightshift-api", "")
    assert refused.name.startswith("GET /v1/jobs/<")
    assert "hush" not in str(refused)


def _log_lines(folder: Path) -> list[dict[str, object]]:
    return [
        orjson.loads(line)
        for file in sorted(folder.glob("*.log"))
        for line in file.read_bytes().splitlines()
        if line.startswith(b"{")
    ]


def test_no_log_line_holds_a_payload_or_a_secret(client: httpx.Client, folder: Path, servers: dict[str, str]) -> None:
    echo = {"endpoint": "/v1/echo", "model": "echo"}
    items = [{"custom_id": SECRET_TEXT, "body": {"input": SECRET_TEXT, "echo": {"fail": "context_length_exceeded"}}}]
    job_id = client.post("/v1/jobs", json={**echo, "inputs": items}).raise_for_status().json()["id"]
    assert _ended(client, job_id) == "failed"
    refused = [
        client.post("/v1/jobs", json={**echo, "model": SECRET_TEXT, "inputs": ["x"]}),
        client.post("/v1/jobs", json={**echo, "inputs": [{"custom_id": "a", "body": SECRET_TEXT}]}),
        client.post("/v1/jobs", content=f'{{"inputs": "{SECRET_TEXT}'.encode()),
        client.get("/v1/jobs", params={"state": SECRET_TEXT}),
        client.get("/v1/jobs", headers={"Authorization": f"Bearer {SECRET_TEXT}"}),
    ]
    assert {answer.status_code for answer in refused} <= {400, 401, 404, 422}

    secrets = [SECRET_TEXT, client.headers["authorization"].removeprefix("Bearer ")]
    secrets += [servers[f"NIGHTSHIFT_{name}"] for name in ("KEY_PEPPER", "ADMIN_KEY", "S3_SECRET_KEY", "BROKER_URL")]
    written = b"".join(file.read_bytes() for file in folder.glob("*.log"))
    assert [secret for secret in secrets if secret.encode() in written] == []

    of_job = [line for line in _log_lines(folder) if line.get("job_id") == job_id]
    (done,) = [line for line in of_job if line["event"] == "chunk_done"]
    assert {"tenant_id", "chunk_id", "attempt", "task_id", "trace_id", "process", "level"} <= done.keys()
    assert {line["event"] for line in _log_lines(folder) if "request_id" in line} >= {"request", "request_refused"}


def test_a_bug_in_a_task_is_reported_with_its_ids_and_an_expected_refusal_is_not(
    client: httpx.Client, sentry: SentryReceiver, servers: dict[str, str]
) -> None:
    assert client.get("/healthz").status_code == 200
    _send("callbacks", "finish_wave", servers, job_id="job_that_is_not_there")
    _send("prepare", "prepare_job", servers, job_id="job_with_a_bug", surprise=SECRET_TEXT)
    events = sentry.wait_for_events(1)
    (event,) = [orjson.loads(event) for event in events if b"job_with_a_bug" in event]
    assert event["exception"]["values"][-1]["type"] == "TypeError"
    assert event["tags"]["job_id"] == "job_with_a_bug"
    assert event["tags"]["process"] == "control"
    assert not any(b"job_that_is_not_there" in event or SECRET_TEXT.encode() in event for event in events)


def _send(module: str, task: str, servers: Mapping[str, str], **arguments: str) -> None:
    """Send a message as no dispatcher would; in a process of its own, for the app is one per process."""
    code = f"from tasks.{module} import {task}; {task}.apply_async(kwargs={arguments!r}, queue='control')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **servers}, check=True, timeout=60)
