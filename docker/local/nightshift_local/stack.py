"""The whole stack: bring it up, look at it, take it down."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil

from config.settings import Settings
from nightshift_local import processes
from nightshift_local.credentials import load_credentials
from nightshift_local.errors import NotReady, StackError
from nightshift_local.home import PROJECT_ROOT, Home
from nightshift_local.leftovers import end_processes, stack_processes
from nightshift_local.ports import LOOPBACK, assign_ports, read_ports
from nightshift_local.program import Program, shell_exports
from nightshift_local.rabbitmq_install import RabbitInstallation, find_rabbitmq, get_rabbitmq
from nightshift_local.readiness import wait_until_ready
from nightshift_local.servers import rabbitmq as rabbitmq_server
from nightshift_local.servers import s3 as s3_server
from nightshift_local.servers.port import Server
from nightshift_local.servers.postgres import Postgres
from nightshift_local.servers.rabbitmq import RabbitMQ
from nightshift_local.servers.redis import Redis
from nightshift_local.servers.s3 import S3
from nightshift_local.supervision import ProcessState, Supervisor
from nightshift_local.workers_ready import probe_worker

_API_READY_S = 90
_WORKER_READY_S = 120
_WORKER_POLL_S = 0.5
_ONE_SHOT_TIMEOUT_S = 120
_SHUTDOWN_S = 20
# Empty data folders take 150 MiB; RabbitMQ stops all publishers below 200 MB.
_NEEDED_MIB = 500
_TENANT = "demo"
_TENANT_RPM = "6000"
_EDGE = ("beat", "flower", "api", "dispatcher")
_PORT_NAMES = ("postgres", "redis", *rabbitmq_server.PORT_NAMES, *s3_server.PORT_NAMES, *processes.PORT_NAMES)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one start of the stack consists of.

    Attributes:
        settings: the environment of Nightshift's own processes.
        client_env: what ``.nightshift/env`` says, but for the tenant's key.
    """

    servers: Sequence[Server]
    programs: Sequence[Program]
    settings: Mapping[str, str]
    client_env: Mapping[str, str]

    @property
    def own_programs(self) -> list[Program]:
        """Nightshift's processes."""
        return [program for program in self.programs if program.shared]

    @property
    def workers(self) -> list[Program]:
        """The control worker and the device workers, each named by its queue."""
        return [program for program in self.own_programs if program.name not in _EDGE]

    @property
    def server_programs(self) -> list[Program]:
        """The backing servers' processes."""
        return [program for program in self.programs if not program.shared]


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack in one folder."""

    home: Home
    say: Say

    def up(self, *, servers_only: bool = False) -> None:
        """Start whatever does not run yet; return when the API takes jobs and every worker listens.

        Models may still load: the first chunk waits for its model.

        Raises:
            StackError: something cannot start; whatever this call started is stopped again.
        """
        self.home.create()
        with self._exclusively():
            fresh = not self._supervisor().is_running()
            plan = self._prepare_fresh() if fresh else self._plan(read_ports(self.home))
            if not fresh and self._all_running(plan, servers_only=servers_only):
                self._wait_until_ready(plan, servers_only=servers_only)
                self.say(f"The stack is already running: {plan.client_env['NIGHTSHIFT_URL']}")
                return
            try:
                self._start(plan, servers_only=servers_only)
            except BaseException:
                if fresh:
                    self._stop()
                raise

    def down(self) -> None:
        """Stop everything, Nightshift first and servers last; nothing of this stack runs afterwards."""
        if not self.home.run.is_dir():
            self.say("The stack is not running.")
            return
        with self._exclusively():
            was_running = self._supervisor().is_running()
            self._stop()
            self.say("The stack is stopped." if was_running else "The stack is not running.")

    def states(self) -> list[tuple[ProcessState, int | None]]:
        """Every process with its port, in the order in which they start; empty where nothing runs."""
        if not self.home.run.is_dir() or not self._supervisor().is_running():
            return []
        states = {state.name: state for state in self._supervisor().states()}
        plan = self._plan(read_ports(self.home))
        return [(states[program.name], program.port) for program in plan.programs if program.name in states]

    def restart(self, name: str) -> None:
        """Stop one process cleanly and start it again."""
        waits = {program.name: program.stop_wait_s for program in self._plan(read_ports(self.home)).programs}
        if name not in waits:
            raise StackError(f"There is no process {name!r}; there are {', '.join(waits)}.")
        self._supervisor().restart_program(name, timeout_s=waits[name] + 5)

    def prepare_servers(self) -> None:
        """Make tables, exchanges and queues on running servers, for a process that is not one of the stack's."""
        plan = self._plan(read_ports(self.home))
        self._one_shot(plan, "migrate")
        self._one_shot(plan, "topology")

    def broker_environment(self) -> dict[str, str]:
        """What ``rabbitmqctl`` needs to find this stack's node; empty under a Redis broker."""
        rabbit = self._rabbitmq(read_ports(self.home))
        return rabbit.node_environment() if rabbit else {}

    def _supervisor(self) -> Supervisor:
        return Supervisor(self.home, load_credentials(self.home).supervisor)

    def _prepare_fresh(self) -> Plan:
        """Clear what an earlier stack left, choose ports, write all configuration, start supervisor."""
        self._check_disk()
        end_processes(stack_processes(self.home))
        installation = self._choose_broker()
        self._remember_broker(installation)
        plan = self._plan(assign_ports(self.home, _PORT_NAMES))
        for folder in ("metrics", "temp"):
            shutil.rmtree(self.home.run / folder, ignore_errors=True)
            (self.home.run / folder).mkdir(mode=0o700)
        self.home.write_private(self.home.settings_file, shell_exports(plan.settings))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.prepare(), plan.servers))
        self._supervisor().start(plan.programs)
        return plan

    def _check_disk(self) -> None:
        free_mib = shutil.disk_usage(self.home.root).free // 2**20
        if free_mib < _NEEDED_MIB:
            raise StackError(
                f"The disk under {self.home.root} has {free_mib} MiB free and the stack needs {_NEEDED_MIB}. "
                "Free some space, or set NIGHTSHIFT_HOME to a folder on another disk."
            )

    def _choose_broker(self) -> RabbitInstallation | None:
        if os.environ.get("NIGHTSHIFT_BROKER") == "redis":
            self.say("Redis is the broker, because NIGHTSHIFT_BROKER says so.")
            return None
        installation = get_rabbitmq(self.say)
        if not installation:
            self.say(
                "RabbitMQ is not installed and could not be installed here, so REDIS IS THE BROKER: jobs "
                "run, but redelivery after a crash is slower and Flower shows no queues. "
                "Install the package rabbitmq-server to change that."
            )
        return installation

    def _remember_broker(self, installation: RabbitInstallation | None) -> None:
        self.home.write_private(self.home.run / "broker", "rabbitmq" if installation else "redis")

    def _plan(self, ports: Mapping[str, int]) -> Plan:
        """Put servers, processes and settings together; writes nothing."""
        secrets = load_credentials(self.home)
        redis = Redis(self.home, ports["redis"], secrets.redis)
        rabbit = self._rabbitmq(ports)
        servers: list[Server] = [
            *([rabbit] if rabbit else []),
            Postgres(self.home, ports["postgres"], secrets.postgres),
            redis,
            S3(self.home, ports, secrets.s3_access_key, secrets.s3_secret_key),
        ]
        settings = processes.process_settings(self.home, ports, secrets)
        if not rabbit:
            settings["NIGHTSHIFT_BROKER_URL"] = redis.url(1)
        for server in servers:
            settings.update(server.settings())
        own = processes.nightshift_programs(
            self.home,
            ports=ports,
            queues=settings["NIGHTSHIFT_QUEUES"].split(","),
            flower_login=f"{processes.FLOWER_USER}:{secrets.flower}",
            broker_api_url=rabbit.monitor_api_url if rabbit else "",
        )
        programs = [program for server in servers for program in server.programs()]
        return Plan(servers, [*programs, *own], settings, _client_env(ports, secrets.admin_key, secrets.flower))

    def _rabbitmq(self, ports: Mapping[str, int]) -> RabbitMQ | None:
        secrets = load_credentials(self.home)
        installation = find_rabbitmq()
        if not installation or (self.home.run / "broker").read_text(encoding="utf-8") != "rabbitmq":
            return None
        return RabbitMQ(
            self.home, ports, installation, secrets.rabbitmq, secrets.rabbitmq_monitor, secrets.erlang_cookie
        )

    def _start(self, plan: Plan, *, servers_only: bool) -> None:
        self._start_servers(plan)
        if servers_only:
            self.say(f"The servers are up; their addresses are in {self.home.settings_file}")
            return
        self.prepare_servers()
        for program in plan.own_programs:
            self._supervisor().start_program(program.name)
        self._wait_for_api(plan)
        self._wait_for_workers(plan)
        self._write_client_env(plan)
        self.say(f"Nightshift is up: {plan.client_env['NIGHTSHIFT_URL']} (. {self.home.env_file})")

    def _start_servers(self, plan: Plan) -> None:
        for program in plan.server_programs:
            self._supervisor().start_program(program.name)
        self._wait_for_servers(plan)

    def _wait_for_servers(self, plan: Plan) -> None:
        with ThreadPoolExecutor() as pool:
            waits = [pool.submit(self._wait_for_server, server) for server in plan.servers]
            for wait in waits:
                wait.result()

    def _wait_for_server(self, server: Server) -> None:
        started = time.monotonic()
        program = server.programs()[-1]
        wait_until_ready(self.home, self._supervisor(), program, server.probe, timeout_s=server.starts_within_s)
        self.say(f"  {server.name:<10} ready on {LOOPBACK}:{program.port} after {time.monotonic() - started:.1f} s")

    def _one_shot(self, plan: Plan, *arguments: str) -> str:
        """Run one ``nightshift`` command inside the stack's environment and return what it printed."""
        argv = [str(Path(sys.executable).with_name("nightshift")), *arguments]
        try:
            result = subprocess.run(
                argv,
                env={**os.environ, **plan.settings, **plan.client_env},
                cwd=PROJECT_ROOT,
                capture_output=True,
                text=True,
                timeout=_ONE_SHOT_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"`nightshift {' '.join(arguments)}` did not run: {error}") from error
        if result.returncode != 0:
            raise StackError(f"`nightshift {' '.join(arguments)}` failed:\n{(result.stderr or result.stdout).strip()}")
        return result.stdout

    def _wait_until_ready(self, plan: Plan, *, servers_only: bool) -> None:
        if servers_only:
            self._wait_for_servers(plan)
        else:
            self._wait_for_api(plan)
            self._wait_for_workers(plan)

    def _wait_for_api(self, plan: Plan) -> None:
        api = next(program for program in plan.programs if program.name == "api")
        probe = partial(_probe_api, plan.client_env["NIGHTSHIFT_URL"])
        wait_until_ready(self.home, self._supervisor(), api, probe, timeout_s=_API_READY_S)

    def _wait_for_workers(self, plan: Plan) -> None:
        with ThreadPoolExecutor() as pool:
            waits = [pool.submit(self._wait_for_worker, plan, program) for program in plan.workers]
            for wait in waits:
                wait.result()

    def _wait_for_worker(self, plan: Plan, program: Program) -> None:
        probe = partial(probe_worker, Settings.from_environ(plan.settings), program.name)
        wait_until_ready(
            self.home, self._supervisor(), program, probe, timeout_s=_WORKER_READY_S, poll_s=_WORKER_POLL_S
        )

    def _write_client_env(self, plan: Plan) -> None:
        """Write ``env``; the tenant's key of the last start is kept while it is valid."""
        key = read_env(self.home.env_file).get("NIGHTSHIFT_API_KEY")
        if not key or not _key_is_valid(plan.client_env["NIGHTSHIFT_URL"], key):
            key = json.loads(self._one_shot(plan, "keys", "create", "--tenant", _TENANT, "--json"))["key"]
            self._one_shot(plan, "tenants", "set", _TENANT, "--rpm", _TENANT_RPM)
        env = {
            "NIGHTSHIFT_URL": plan.client_env["NIGHTSHIFT_URL"],
            "NIGHTSHIFT_API_KEY": str(key),
            **plan.client_env,
        }
        self.home.write_private(self.home.env_file, shell_exports(env))

    def _all_running(self, plan: Plan, *, servers_only: bool) -> bool:
        wanted = plan.server_programs if servers_only else plan.programs
        running = {state.name for state in self._supervisor().states() if state.state == "running"}
        return {program.name for program in wanted} <= running

    def _stop(self) -> None:
        """Stop in order, each step bounded, then look for anything that is still there."""
        supervisor = self._supervisor()
        if supervisor.is_running():
            with contextlib.suppress(OSError):
                self._stop_in_order(supervisor)
                supervisor.shut_down()
                _wait_for_end(self.home)
        end_processes(stack_processes(self.home))
        for pid_file in self.home.pids.glob("*.pid"):
            pid_file.unlink()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        self.home.remove_sockets()
        ports = read_ports(self.home)
        if ports:
            s3_server.remove_sockets(ports)

    def _stop_in_order(self, supervisor: Supervisor) -> None:
        plan = self._plan(read_ports(self.home))
        workers = [program.name for program in plan.workers if program.name != "control"]
        servers = [program.name for program in plan.server_programs if program.name != "epmd"]
        for step in (_EDGE, workers, ["control"], servers, ["epmd"]):
            longest = max((program.stop_wait_s for program in plan.programs if program.name in step), default=0)
            supervisor.stop_programs(step, timeout_s=longest + 5)

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Let two starts or stops of one stack follow each other."""
        with (self.home.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("Another start or stop of this stack is under way; waiting for it ...")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def read_env(path: Path) -> dict[str, str]:
    """Read a file of ``export NAME=value`` lines; empty where there is none."""
    if not path.exists():
        return {}
    words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def _client_env(ports: Mapping[str, int], admin_key: str, flower_password: str) -> dict[str, str]:
    url = f"http://{LOOPBACK}:{ports['api']}"
    return {
        "NIGHTSHIFT_URL": url,
        "NIGHTSHIFT_ADMIN_KEY": admin_key,
        "NIGHTSHIFT_FLOWER_URL": f"http://{processes.FLOWER_USER}:{flower_password}@{LOOPBACK}:{ports['flower']}",
        "NIGHTSHIFT_CONSOLE_URL": f"{url}/console",
        "NIGHTSHIFT_METRICS_URL": f"http://{LOOPBACK}:{ports['metrics']}/metrics",
    }


def _probe_api(url: str) -> None:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)  # a proxy has no way to our loopback
    except httpx.HTTPError as error:
        raise NotReady(str(error)) from error
    if answer.status_code != httpx.codes.OK:
        raise NotReady(f"GET /readyz answers {answer.status_code}: {answer.text[:500]}")


def _key_is_valid(url: str, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{url}/v1/models", headers=headers, timeout=10, trust_env=False)
    return answer.status_code == httpx.codes.OK


def _wait_for_end(home: Home) -> None:
    """Wait until supervisor and all its children are gone, within bounds."""
    psutil.wait_procs(stack_processes(home), timeout=_SHUTDOWN_S)
