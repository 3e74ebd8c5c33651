"""The local stack keeps its word: what runs, what comes back, what it says, and that nothing stays behind."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import psycopg2
import pytest
import redis
from nightshift_local.errors import NotReady, StackError
from nightshift_local.home import PROJECT_ROOT, Home
from nightshift_local.leftovers import stack_processes
from nightshift_local.ports import is_free, read_ports
from nightshift_local.stack import Stack
from nightshift_local.workers_ready import probe_worker
from running_stack import RunningStack

from app.services.check_installation import check_installation
from app.services.register_worker import register_worker, unregister_worker
from app.wiring import Wiring
from config.settings import Settings

NAMES = {"api", "dispatcher", "control", "webhooks", "beat", "flower", "postgres", "rabbitmq", "redis", "s3"}
ADDRESSES = {"URL", "API_KEY", "ADMIN_KEY", "FLOWER_URL", "CONSOLE_URL", "METRICS_URL"}
COMMAND = [sys.executable, str(PROJECT_ROOT / "docker" / "local" / "nightshift_local")]


def run_command(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "NIGHTSHIFT_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def empty_home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nightshift-test-"))
    yield folder
    Stack(Home(folder), lambda _line: None).down()
    shutil.rmtree(folder)


def test_every_process_runs_and_its_pid_file_names_it(stack: RunningStack) -> None:
    pids = stack.pids()

    assert pids.keys() >= NAMES
    assert [name for name in pids if name.startswith(("cpu.", "gpu."))]
    for name, pid in pids.items():
        assert stack.pid(name) == pid
        assert psutil.pid_exists(pid)
        assert (stack.stack.home.logs / f"{name}.log").exists()


def test_a_proxy_in_the_environment_is_not_asked_for_our_own_loopback(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    stack.stack.up()


def test_the_env_file_is_private_and_a_shell_can_read_it(stack: RunningStack) -> None:
    path = stack.stack.home.env_file

    said = subprocess.run(
        ["sh", "-c", f". {path} && env"], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    names = {line.split("=")[0] for line in said.stdout.splitlines()}

    assert {f"NIGHTSHIFT_{name}" for name in ADDRESSES} <= names
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(stack.stack.home.root.stat().st_mode) == 0o700


def test_the_key_in_the_env_file_opens_the_api(stack: RunningStack) -> None:
    with stack.client() as client:
        assert client.get("/v1/models").status_code == httpx.codes.OK
    with stack.client("ns_wrong") as client:
        assert client.get("/v1/models").status_code == httpx.codes.UNAUTHORIZED


def test_everything_listens_on_loopback_only(stack: RunningStack) -> None:
    listening = {
        connection.laddr.ip
        for pid in stack.pids().values()
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert listening <= {"127.0.0.1", "::1"}


def test_flower_shows_nothing_without_its_login(stack: RunningStack) -> None:
    url = httpx.URL(stack.env["NIGHTSHIFT_FLOWER_URL"])

    assert httpx.get(url.copy_with(username=None, password=None)).status_code == httpx.codes.UNAUTHORIZED
    assert httpx.get(url, follow_redirects=True).status_code == httpx.codes.OK


def test_the_object_store_refuses_who_does_not_sign(stack: RunningStack) -> None:
    answer = httpx.get(f"{stack.settings['NIGHTSHIFT_S3_ENDPOINT']}/nightshift/?list-type=2")

    assert answer.status_code == httpx.codes.FORBIDDEN


def test_a_second_up_says_that_it_runs_and_is_quick(stack: RunningStack) -> None:
    before = stack.pids()
    started = time.monotonic()

    said = run_command(stack.stack.home.root, "up")

    assert said.returncode == 0, said.stderr
    assert "already running" in said.stderr
    assert time.monotonic() - started < 10
    assert stack.pids() == before


@pytest.mark.parametrize("name", ["postgres", "redis", "rabbitmq", "s3"])
def test_a_killed_server_comes_back_with_its_data(stack: RunningStack, name: str) -> None:
    with stack.client() as client:
        content = b'{"custom_id": "a", "body": {"input": "kept"}}\n'
        file = {"file": ("kept.jsonl", content)}
        file_id = client.post("/v1/files", files=file, data={"purpose": "batch"}).raise_for_status().json()["id"]

        old_pid = stack.kill(name)
        stack.wait_for_new_pid(name, old_pid)
        stack.wait_until_ready()

        assert stack.pid(name) == stack.pids()[name] != old_pid
        assert client.get(f"/v1/files/{file_id}/content").content == content


def test_redis_keeps_what_was_written_a_second_before_it_was_killed(stack: RunningStack) -> None:
    client = redis.Redis.from_url(stack.settings["NIGHTSHIFT_REDIS_URL"])
    client.set("local-stack-test", "kept", ex=60)
    time.sleep(1.2)

    stack.wait_for_new_pid("redis", stack.kill("redis"))
    stack.wait_until_ready()

    assert client.get("local-stack-test") == b"kept"
    client.close()


@pytest.mark.parametrize("name", ["api", "dispatcher", "control", "webhooks", "beat"])
def test_a_killed_process_of_ours_is_started_again(stack: RunningStack, name: str) -> None:
    old_pid = stack.kill(name)

    new_pid = stack.wait_for_new_pid(name, old_pid)

    assert stack.pids()[name] == new_pid
    stack.wait_until_ready()


def test_down_leaves_no_process_and_the_next_up_finds_its_data(empty_home: Path) -> None:
    said = run_command(empty_home, "up", "--servers-only")
    assert said.returncode == 0, said.stderr
    ports = (empty_home / "run" / "ports.json").read_text(encoding="utf-8")
    assert stack_processes(Home(empty_home))
    write_a_row(empty_home)

    assert run_command(empty_home, "down").returncode == 0
    assert stack_processes(Home(empty_home)) == []
    assert list((empty_home / "pids").iterdir()) == []
    assert all(is_free(port) for port in read_ports(Home(empty_home)).values())

    assert run_command(empty_home, "up", "--servers-only").returncode == 0
    assert (empty_home / "run" / "ports.json").read_text(encoding="utf-8") == ports
    assert read_the_row(empty_home) == "kept"


def test_down_ends_processes_whose_supervisor_was_killed(empty_home: Path) -> None:
    assert run_command(empty_home, "up", "--servers-only").returncode == 0
    supervisor = psutil.Process(int((empty_home / "run" / "supervisor.pid").read_text()))
    supervisor.kill()
    supervisor.wait(10)
    assert stack_processes(Home(empty_home))

    assert run_command(empty_home, "down").returncode == 0

    assert stack_processes(Home(empty_home)) == []
    assert all(is_free(port) for port in read_ports(Home(empty_home)).values())


def test_a_taken_port_is_named(empty_home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        said = run_command(empty_home, "up", "--servers-only", NIGHTSHIFT_PORT_REDIS=str(port))

    assert said.returncode == 1
    assert f"Port {port}, asked for by NIGHTSHIFT_PORT_REDIS for redis, is taken by another program" in said.stderr
    assert "Traceback" not in said.stderr
    assert stack_processes(Home(empty_home)) == []


def test_a_server_that_cannot_start_is_named_with_its_log_and_nothing_runs_on(empty_home: Path) -> None:
    damaged = empty_home / "data" / "redis" / "appendonly.aof"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"this is no append-only file\n" * 10)

    said = run_command(empty_home, "up", "--servers-only")

    assert said.returncode == 1
    assert "redis does not come up on 127.0.0.1:" in said.stderr
    assert str(empty_home / "logs" / "redis.log") in said.stderr
    assert "Traceback" not in said.stderr
    assert stack_processes(Home(empty_home)) == []


def test_a_folder_of_somebody_else_is_refused_with_a_sentence() -> None:
    said = run_command(Path("/proc/nightshift"), "up", "--servers-only")

    assert said.returncode == 1
    assert "Set NIGHTSHIFT_HOME to a folder that you own" in said.stderr


def test_a_full_disk_is_named(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=30 * 2**20))

    with pytest.raises(StackError, match="has 30 MiB free and the stack needs 500"):
        Stack(Home(empty_home), lambda _line: None).up(servers_only=True)

    assert stack_processes(Home(empty_home)) == []


def test_after_up_the_doctor_finds_every_worker_at_its_queue(empty_home: Path) -> None:
    assert run_command(empty_home, "up").returncode == 0

    settings = RunningStack(Stack(Home(empty_home), print)).settings
    found = check_installation(settings=Settings.from_environ(settings))

    assert {check.name: check.found for check in found if check.state == "failed"} == {}


def test_a_worker_that_is_registered_and_does_not_listen_is_not_ready(wiring: Wiring) -> None:
    if wiring.settings.broker_is_redis:
        pytest.skip("Redis does not know who listens")
    with pytest.raises(NotReady, match="has not registered itself"):
        probe_worker(wiring.settings, "lonely.3")
    register_worker(
        database=wiring.database,
        queue="lonely.3",
        host="here",
        incarnation="here:1",
        warm_models=(),
        silence_s=20.0,
        is_new=True,
    )
    try:
        with pytest.raises(NotReady, match=r"nobody listens on lonely\.3 and sync\.lonely"):
            probe_worker(wiring.settings, "lonely.3")
    finally:
        unregister_worker(database=wiring.database, queue="lonely.3", incarnation="here:1")


def test_ps_and_down_without_a_stack_say_so(empty_home: Path) -> None:
    assert "not running" in run_command(empty_home, "ps").stderr
    assert "not running" in run_command(empty_home, "down").stderr


def database_url(home: Path) -> str:
    url = next(
        line.split("=", 1)[1]
        for line in (home / "settings.env").read_text(encoding="utf-8").splitlines()
        if "NIGHTSHIFT_DATABASE_URL" in line
    )
    return url.replace("+psycopg2", "")


def write_a_row(home: Path) -> None:
    connection = psycopg2.connect(database_url(home))
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (word text)")
        cursor.execute("INSERT INTO kept VALUES ('kept')")
    connection.close()


def read_the_row(home: Path) -> str:
    connection = psycopg2.connect(database_url(home))
    with connection.cursor() as cursor:
        cursor.execute("SELECT word FROM kept")
        word = str(cursor.fetchone()[0])
    connection.close()
    return word


@pytest.mark.parametrize("name", ["a%c", 'a"b', "it's", "a$b"])
def test_a_folder_whose_path_no_configuration_can_express_is_refused(name: str, tmp_path: Path) -> None:
    refused = run_command(tmp_path / name, "up", "--servers-only")
    assert refused.returncode == 1
    assert "Set NIGHTSHIFT_HOME to another folder" in " ".join(refused.stderr.split())
    assert not (tmp_path / name).exists()
