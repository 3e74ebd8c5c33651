"""The command line against a small real HTTP server: what it sends, prints, and exits with."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Api:
    """Answers by (method, path without query), in turn where a list is given; remembers what it was sent."""

    url: str
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def on(
        self, method: str, path: str, body: Any, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.setdefault((method, path), []).append((status, headers or {}, content))

    def answer(self, method: str, path: str) -> Answer:
        known = self.answers[method, path.partition("?")[0]]
        return known.pop(0) if len(known) > 1 else known[0]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    """A server on a free port; the environment points to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            served.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, headers, content = served.answer(self.command, self.path)
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Api(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("NIGHTSHIFT_URL", served.url)
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", "key-1")
    monkeypatch.setenv("NIGHTSHIFT_ADMIN_KEY", "admin-1")
    monkeypatch.chdir(tmp_path)
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nightshift() -> Callable[..., Result]:
    """Run a command."""
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def _job(state: str, **changes: Any) -> dict[str, Any]:
    counts = {"total": 3, "pending": 0, "running": 0, "succeeded": 2, "failed": 1, "cancelled": 0, "expired": 0}
    return {
        "id": "job_1",
        "state": state,
        "progress": 1.0,
        "endpoint": "/v1/echo",
        "model": "echo",
        "priority": "standard",
        "completion_window": "24h",
        "counts": counts,
        "waiting": None,
        "eta": None,
        "errors": {"by_code": {"internal": 1}, "validation": []},
        "usage": {"total_tokens": 12},
        "created_at": "2026-11-01T00:00:00Z",
        "finished_at": None,
        **changes,
    }


def _error(code: str, **changes: Any) -> dict[str, Any]:
    error = {
        "type": "x",
        "code": code,
        "message": "It is wrong.",
        "param": None,
        "retryable": False,
        "request_id": "req_9",
    }
    return {"error": {**error, **changes}}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A small input file."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"custom_id": "a", "body": {"input": "x"}}\n')
    return path


def test_submit_uploads_the_file_and_makes_a_job_of_it(
    api: Api, nightshift: Callable[..., Result], lines: Path
) -> None:
    api.on("POST", "/v1/files", {"id": "file-1"})
    api.on("POST", "/v1/jobs", _job("validating"), status=202)
    done = nightshift(
        "submit", lines, "--endpoint", "/v1/echo", "--priority", "urgent", "--window", "1h", "--metadata", "team=a=b"
    )
    assert (done.exit_code, done.stdout) == (0, "job_1\n")
    (_, _, headers, upload), (_, _, _, created) = api.seen
    assert headers["authorization"] == "Bearer key-1"
    assert b'name="purpose"\r\n\r\nbatch' in upload
    assert lines.read_bytes() in upload
    assert json.loads(created) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/echo",
        "priority": "urgent",
        "completion_window": "1h",
        "metadata": {"team": "a=b"},
    }


@pytest.mark.parametrize(
    ("state", "code"),
    [("succeeded", 0), ("partially_succeeded", 3), ("failed", 4), ("expired", 5), ("cancelled", 6)],
)
def test_watch_ends_with_the_job_and_its_exit_code_says_how(
    api: Api, nightshift: Callable[..., Result], lines: Path, state: str, code: int
) -> None:
    api.on("POST", "/v1/files", {"id": "file-1"})
    api.on("POST", "/v1/jobs", _job("validating"), status=202)
    api.on("GET", "/v1/jobs/job_1", _job("running", eta={"seconds": 3, "low": 2, "high": 5}))
    api.on("GET", "/v1/jobs/job_1", _job(state))
    done = nightshift("submit", lines, "--watch", "--json")
    assert done.exit_code == code
    assert json.loads(done.stdout)["state"] == state


def test_a_refusal_is_told_with_code_param_and_request_id(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("GET", "/v1/jobs/job_1", _error("not_found", param="id"), status=404)
    done = nightshift("show", "job_1")
    assert done.exit_code == 1
    assert done.stderr == "Error: It is wrong. (not_found, param id, request req_9)\n"


def test_an_answer_in_another_form_is_told_as_such(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("GET", "/v1/models", b"<html>", status=502)
    assert "HTTP 502" in nightshift("models").stderr


def test_when_nothing_answers_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, nightshift: Callable[..., Result]
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_URL", "http://127.0.0.1:1")
    done = nightshift("jobs")
    assert done.exit_code == 1
    assert "nothing answers at http://127.0.0.1:1" in done.stderr
    assert "make up" in done.stderr


def test_without_an_address_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nightshift: Callable[..., Result]
) -> None:
    for name in ("NIGHTSHIFT_URL", "NIGHTSHIFT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    done = nightshift("models")
    assert done.exit_code == 1
    assert "NIGHTSHIFT_URL is not set" in done.stderr


def test_results_are_written_page_by_page(api: Api, nightshift: Callable[..., Result], tmp_path: Path) -> None:
    first = {"x-nightshift-complete": "true", "x-nightshift-next-cursor": "c1"}
    api.on("GET", "/v1/jobs/job_1/results", b'{"index":0}\n', headers=first)
    api.on("GET", "/v1/jobs/job_1/results", b'{"index":1}\n', headers={"x-nightshift-complete": "true"})
    done = nightshift("results", "job_1", "--status", "succeeded", "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert (tmp_path / "out").read_bytes() == b'{"index":0}\n{"index":1}\n'
    assert "after=c1" in api.seen[1][1]
    assert "status=succeeded" in api.seen[1][1]


def test_a_page_that_breaks_off_is_asked_for_again(
    api: Api, nightshift: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.jobs.RESUME_PAUSE_S", 0.0)
    broken = {"content-length": "1000", "connection": "close", "x-nightshift-next-cursor": "c9"}
    api.on("GET", "/v1/jobs/job_1/results", b'{"index":0}\n{"ind', headers=broken)
    api.on("GET", "/v1/jobs/job_1/results", b'{"index":0}\n', headers={"x-nightshift-complete": "true"})
    done = nightshift("results", "job_1")
    assert (done.exit_code, done.stdout) == (0, '{"index":0}\n')


def test_results_of_a_running_job_say_where_to_go_on(api: Api, nightshift: Callable[..., Result]) -> None:
    headers = {"x-nightshift-complete": "false", "x-nightshift-next-cursor": "c1"}
    api.on("GET", "/v1/jobs/job_1/results", b'{"index":0}\n', headers=headers)
    api.on("GET", "/v1/jobs/job_1/results", b"", headers=headers)
    done = nightshift("results", "job_1")
    assert done.stdout == '{"index":0}\n'
    assert "--after c1" in done.stderr


def test_keys_are_made_with_the_operators_key_and_printed_as_the_contract_says(
    api: Api, nightshift: Callable[..., Result]
) -> None:
    made = {"key": "ns_secret", "key_id": "key_1", "tenant": "demo"}
    api.on("POST", "/v1/admin/keys", made, status=201)
    done = nightshift("keys", "create", "--tenant", "demo", "--json")
    assert json.loads(done.stdout) == made
    assert api.seen[0][2]["authorization"] == "Bearer admin-1"


def test_keys_without_the_operators_key_say_so(
    api: Api, monkeypatch: pytest.MonkeyPatch, nightshift: Callable[..., Result]
) -> None:
    monkeypatch.delenv("NIGHTSHIFT_ADMIN_KEY")
    assert "NIGHTSHIFT_ADMIN_KEY" in nightshift("keys", "list").stderr
    assert api.seen == []


SCHEDULE = {
    "id": "sched_1",
    "name": "[/x] :moon: [bold]",
    "cron": "30 2 * * *",
    "timezone": "UTC",
    "next_run_at": "2026-11-01T02:30:00Z",
    "source": {"prefix": "in/"},
    "job": {"endpoint": "/v1/echo"},
}


def test_a_schedule_is_made_of_options(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("POST", "/v1/schedules", SCHEDULE, status=201)
    done = nightshift(
        *("schedules", "create", "--name", "n", "--cron", "0 2 * * *", "--endpoint", "/v1/echo"), "--prefix", "in/"
    )
    assert done.exit_code == 0
    assert json.loads(api.seen[0][3]) == {
        "name": "n",
        "cron": "0 2 * * *",
        "timezone": "UTC",
        "job": {"endpoint": "/v1/echo"},
        "source": {"prefix": "in/"},
    }


@pytest.mark.usefixtures("api")
def test_a_schedule_needs_one_source(nightshift: Callable[..., Result]) -> None:
    done = nightshift("schedules", "create", "--name", "n", "--cron", "0 2 * * *")
    assert done.exit_code == 2
    assert "exactly one of --file-id and --prefix" in done.stderr


@pytest.mark.parametrize("command", [("list",), ("show", "sched_1")])
def test_names_are_printed_as_they_are(api: Api, nightshift: Callable[..., Result], command: tuple[str, ...]) -> None:
    api.on("GET", "/v1/schedules", {"data": [SCHEDULE]})
    api.on("GET", "/v1/schedules/sched_1", SCHEDULE)
    shown = nightshift("schedules", *command)
    assert shown.exit_code == 0, shown.output
    assert "[/x] :moon: [bold]" in shown.stdout


def test_what_was_wrong_in_a_line_is_printed_as_it_is(api: Api, nightshift: Callable[..., Result]) -> None:
    problem = {"line": 2, "message": "custom_id '[/red]' is used twice.", "code": "duplicate_custom_id"}
    refused = _job("failed", model=None, errors={"by_code": {}, "validation": [problem]})
    api.on("GET", "/v1/jobs/job_1", refused)
    shown = nightshift("show", "job_1")
    assert "line 2: custom_id '[/red]' is used twice." in shown.stdout
    assert "None" not in shown.stdout


def test_no_job_in_a_state_is_not_no_job_at_all(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("GET", "/v1/jobs", {"data": [], "has_more": False})
    assert nightshift("jobs", "--state", "running").stdout == "no such jobs\n"
    assert "nightshift submit" in nightshift("jobs").stdout


def test_every_command_takes_json() -> None:
    def commands(group: Any) -> Iterator[Any]:
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else [command]

    without = [command.name for command in commands(main) if "as_json" not in {p.name for p in command.params}]
    assert without == []


def test_missing_settings_of_a_local_command_are_named(
    monkeypatch: pytest.MonkeyPatch, nightshift: Callable[..., Result]
) -> None:
    monkeypatch.delenv("NIGHTSHIFT_DATABASE_URL", raising=False)
    done = nightshift("migrate")
    assert done.exit_code == 1
    assert "NIGHTSHIFT_DATABASE_URL is not set" in done.stderr


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("resume", "running"), ("cancel", "cancelling")])
def test_a_job_is_steered_and_shown(api: Api, nightshift: Callable[..., Result], verb: str, state: str) -> None:
    api.on("POST", f"/v1/jobs/job_1/{verb}", _job(state))
    done = nightshift(verb, "job_1")
    assert done.exit_code == 0, done.output
    assert f"job_1  {state}" in done.stdout
    assert '"state"' in nightshift(verb, "job_1", "--json").stdout


@pytest.mark.parametrize(
    ("options", "body"),
    [((), {}), (("--include", "failed", "--include", "expired"), {"include": ["failed", "expired"]})],
)
def test_a_job_is_retried(
    api: Api, nightshift: Callable[..., Result], options: tuple[str, ...], body: dict[str, Any]
) -> None:
    api.on("POST", "/v1/jobs/job_1/retry", _job("queued"), status=202)
    done = nightshift("retry", "job_1", *options)
    assert done.exit_code == 0, done.output
    assert "job_1  queued" in done.stdout
    assert json.loads(api.seen[0][3]) == body


def test_a_retry_can_be_watched_to_its_end(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("POST", "/v1/jobs/job_1/retry", _job("queued"), status=202)
    api.on("GET", "/v1/jobs/job_1", _job("running"))
    api.on("GET", "/v1/jobs/job_1", _job("partially_succeeded"))
    done = nightshift("retry", "job_1", "--watch", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["state"] == "partially_succeeded"


def test_an_outcome_that_cannot_be_retried_is_refused_before_anything_is_sent(
    api: Api, nightshift: Callable[..., Result]
) -> None:
    assert nightshift("retry", "job_1", "--include", "succeeded").exit_code == 2
    assert api.seen == []


TENANT = {
    "id": "tenant_1",
    "name": "research",
    "quota": {
        "weight": 2.0,
        "max_running_jobs": 1000,
        "max_chunks": 3,
        "max_enqueued_tokens": 10_000_000,
        "requests_per_minute": 1200,
        "max_storage_bytes": 3 * 2**30 // 2,
        "retention_s": 30 * 86_400,
        "budget": None,
    },
    "limits": dict.fromkeys(
        ("max_running_jobs", "max_enqueued_tokens", "requests_per_minute", "max_storage_bytes", "retention_s", "budget")
    )
    | {"weight": 2.0, "max_chunks": 3},
    "use": {"running_jobs": 1, "live_chunks": 2, "enqueued_tokens": 30_000, "stored_bytes": 512},
}


def test_limits_of_a_tenant_are_set_and_reset_in_the_operators_units(
    api: Api, nightshift: Callable[..., Result]
) -> None:
    api.on("PATCH", "/v1/admin/tenants/research", TENANT)
    done = nightshift(
        *("tenants", "set", "research", "--weight", "2", "--max-jobs", "5", "--max-chunks", "3", "--max-tokens", "7"),
        *("--rpm", "60", "--max-storage", "1.5GiB", "--retention", "30d", "--reset", "budget"),
    )
    assert done.exit_code == 0, done.output
    assert api.seen[0][2]["authorization"] == "Bearer admin-1"
    assert json.loads(api.seen[0][3]) == {
        "weight": 2.0,
        "max_running_jobs": 5,
        "max_chunks": 3,
        "max_enqueued_tokens": 7,
        "requests_per_minute": 60,
        "max_storage_bytes": 1_610_612_736,
        "retention_s": 2_592_000,
        "budget": None,
    }
    assert re.search(r"max-storage +512 B +1.5 GiB +the default", done.stdout)
    assert re.search(r"max-chunks +2 +3 +set", done.stdout)
    assert re.search(r"budget +- +no limit", done.stdout)


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "name a limit"),
        (("--weight", "nan"), "no finite number"),
        (("--budget", "inf"), "no finite number"),
        (("--max-storage", "ten"), "500GB"),
        (("--max-storage", "-5GB"), "500GB"),
        (("--retention", "30y"), "30d"),
        (("--rpm", "1", "--reset", "rpm"), "either set it or --reset it"),
        (("--reset", "name"), "Invalid value"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused_before_it_is_sent(
    api: Api, nightshift: Callable[..., Result], options: tuple[str, ...], problem: str
) -> None:
    done = nightshift("tenants", "set", "research", *options)
    assert done.exit_code == 2
    assert problem in done.stderr
    assert api.seen == []


def test_tenants_are_listed_over_all_pages(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("GET", "/v1/admin/tenants", {"data": [TENANT], "has_more": True})
    api.on("GET", "/v1/admin/tenants", {"data": [{**TENANT, "name": "sales"}], "has_more": False})
    shown = nightshift("tenants", "list")
    assert shown.exit_code == 0, shown.output
    assert "research" in shown.stdout
    assert "sales" in shown.stdout
    assert "30,000 of 10,000,000" in shown.stdout
    assert "after=research" in api.seen[1][1]
    assert len(json.loads(nightshift("tenants", "list", "--json").stdout)["data"]) == 1


def test_a_live_job_is_changed(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("PATCH", "/v1/jobs/job_1", _job("running", priority="urgent"))
    changes = ("--priority", "urgent", "--window", "2h", "--metadata", "run=2")
    done = nightshift("update", "job_1", *changes)
    assert done.exit_code == 0, done.output
    assert json.loads(api.seen[0][3]) == {"priority": "urgent", "completion_window": "2h", "metadata": {"run": "2"}}
    assert "urgent" in done.stdout
    nothing = nightshift("update", "job_1")
    assert nothing.exit_code == 2
    assert "at least one of" in nothing.stderr


WORKER = {
    "queue": "gpu.0",
    "pool": "gpu",
    "state": "draining",
    "host": "node-a",
    "incarnation": "node-a:7:1",
    "started_at": "2026-11-01T00:00:00Z",
    "age_s": 7300.0,
    "seen_at": "2026-11-01T02:00:00Z",
    "warm_models": ["echo", "all-MiniLM-L6-v2"],
    "unloadable_models": [],
    "running": {"chunk_id": 42, "job_id": "job_1", "running_s": 3.2},
    "n_waiting": 0,
    "drained_at": "2026-11-01T02:00:00Z",
}


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_a_worker_is_drained_with_the_operators_key_and_its_last_chunk_named(
    api: Api, nightshift: Callable[..., Result], verb: str
) -> None:
    api.on("POST", f"/v1/admin/workers/gpu.0/{verb}", WORKER)
    done = nightshift("workers", verb, "gpu.0")
    assert done.stdout == "gpu.0 is draining; it still runs chunk 42 of job_1\n"
    assert json.loads(nightshift("workers", verb, "gpu.0", "--json").stdout) == WORKER
    assert {headers["authorization"] for _, _, headers, _ in api.seen} == {"Bearer admin-1"}


def test_workers_are_listed_with_what_they_run(api: Api, nightshift: Callable[..., Result]) -> None:
    gone = {**WORKER, "queue": "gpu.1", "state": "drained", "host": None, "age_s": None, "running": None}
    api.on("GET", "/v1/admin/workers", {"object": "list", "data": [WORKER, {**gone, "warm_models": []}]})
    _, first, second = nightshift("workers", "list").stdout.splitlines()
    assert first.split(None, 3)[:3] == ["gpu.0", "draining", "node-a"]
    assert "2 h" in first
    assert "echo, all-MiniLM-L6-v2" in first
    assert "chunk 42 of job_1 for 3 s" in first
    assert second.split() == ["gpu.1", "drained", "-", "-", "-", "-", "0"]


def test_a_worker_that_is_not_there_is_told(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("POST", "/v1/admin/workers/..%2Fx/drain", _error("not_found", message="no worker"), status=404)
    done = nightshift("workers", "drain", "../x")
    assert (done.exit_code, done.stderr) == (1, "Error: no worker (not_found, request req_9)\n")


def _group(state: str) -> dict[str, Any]:
    return {**_job(state), "id": "group_1", "object": "group", "jobs": ["job_1", "job_2"]}


def test_a_large_file_becomes_a_group_that_is_watched_as_a_job_is(
    api: Api, nightshift: Callable[..., Result], lines: Path
) -> None:
    api.on("POST", "/v1/files", {"id": "file-1"})
    api.on("POST", "/v1/jobs", _group("validating"), status=202)
    for state in ("running", "succeeded"):
        api.on("GET", "/v1/groups/group_1", _group(state))
    done = nightshift("submit", lines, "--watch", "--json")
    assert (done.exit_code, json.loads(done.stdout)["state"]) == (0, "succeeded")


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_a_group_is_steered_and_shown_with_its_number_of_jobs(
    api: Api, nightshift: Callable[..., Result], verb: str
) -> None:
    api.on("POST", f"/v1/groups/group_1/{verb}", _group("running"))
    api.on("GET", "/v1/groups/group_1", _group("running"))
    for command in (verb, "show"):
        assert re.search(r"jobs +2\b", nightshift(command, "group_1").stdout)


def test_groups_are_listed(api: Api, nightshift: Callable[..., Result]) -> None:
    api.on("GET", "/v1/groups", {"data": [_group("running")], "has_more": True, "last_id": "group_1"})
    done = nightshift("groups")
    assert re.search(r"group_1 +running +3/3 +2 ", done.stdout)
    assert "--after group_1" in done.stderr


def test_a_file_above_one_requests_limit_is_sent_in_parts(
    api: Api, nightshift: Callable[..., Result], lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.upload.LARGEST_AT_ONCE_BYTES", 10)
    monkeypatch.setattr("app.cli.upload.PART_BYTES", 20)
    api.on("POST", "/v1/uploads", {"id": "upload_1"})
    for number in range(1, 4):
        api.on("POST", "/v1/uploads/upload_1/parts", {"id": f"part_{number}"})
    api.on("POST", "/v1/uploads/upload_1/complete", {"file": {"id": "file-9"}})
    api.on("POST", "/v1/jobs", _job("validating"), status=202)
    assert nightshift("submit", lines).exit_code == 0
    announced, *_parts, completed, job = [body for _, _, _, body in api.seen]
    assert json.loads(announced)["bytes"] == lines.stat().st_size
    assert json.loads(completed)["part_ids"] == ["part_1", "part_2", "part_3"]
    assert json.loads(completed)["md5"] == hashlib.md5(lines.read_bytes(), usedforsecurity=False).hexdigest()
    assert json.loads(job)["input_file_id"] == "file-9"


def test_a_job_that_waits_is_shown_with_its_reason_its_place_and_its_end(
    api: Api, nightshift: Callable[..., Result]
) -> None:
    waiting = {"reason": "behind_other_work", "detail": "1,233 jobs start before it.", "position": 1234}
    api.on("GET", "/v1/jobs/job_1", _job("queued", waiting=waiting, eta={"seconds": 50.4, "low": 30.0, "high": 80.0}))
    shown = nightshift("show", "job_1").stdout
    assert "behind_other_work (place 1,234): 1,233 jobs start before it." in shown
    assert "50 s (30 to 80)" in shown
