"""One trace from the request to the callback, over the real processes."""

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
import pytest
import yaml
from api_process import api_process
from core_machine import fresh_database
from otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver

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
def client(
    servers: dict[str, str], collector: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A tenant's client of an installation of its own, all of whose processes trace."""
    folder = tmp_path_factory.mktemp("traces")
    with fresh_database(Settings.from_environ(servers)) as url, ExitStack() as processes:
        settings = {
            **servers,
            "NIGHTSHIFT_DATABASE_URL": url,
            "NIGHTSHIFT_OTLP_ENDPOINT": collector.endpoint,
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
