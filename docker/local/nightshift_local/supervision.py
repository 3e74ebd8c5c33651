"""Supervisor, which keeps every process of the stack running, and how we speak to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.states import ProcessStates
from supervisor.xmlrpc import Faults, SupervisorTransport

from nightshift_local.errors import StackError
from nightshift_local.home import Home
from nightshift_local.program import MARKER, Program, write_launch_script

_START_TIMEOUT_S = 15
_POLL_S = 0.05
_USER = "nightshift"

_HEADER = """
[supervisord]
logfile = {logs}/supervisor.log
logfile_maxbytes = 10MB
logfile_backups = 2
pidfile = {run}/supervisor.pid
childlogdir = {logs}
directory = {run}
umask = 077
nodaemon = false
minfds = 4096

[unix_http_server]
file = {socket}
chmod = 0600
username = {user}
password = {password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

# A failing process is tried again for ever, one second later each time; `up` and `ps` tell the person.
_PROGRAM = """
[program:{name}]
command = "{script}"
autostart = false
autorestart = true
startsecs = 1
startretries = 100000
stopsignal = {stop_signal}
stopwaitsecs = {stop_wait_s}
killasgroup = true
redirect_stderr = true
stdout_logfile = {logs}/{name}.log
stdout_logfile_maxbytes = 20MB
stdout_logfile_backups = 3
"""

_ALIVE = frozenset({ProcessStates.STARTING, ProcessStates.RUNNING, ProcessStates.STOPPING})


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One line of ``ps``.

    Attributes:
        state: supervisor's word in lower case: running, starting, backoff, stopped, stopping, exited, fatal.
        pid: 0 where nothing runs.
        started_at: Unix seconds of the last start; 0 before the first.
    """

    name: str
    state: str
    pid: int
    started_at: int
    description: str


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The supervisor of one stack."""

    home: Home
    password: str

    @property
    def _socket(self) -> Path:
        return self.home.sockets / "supervisor.sock"

    @property
    def _configuration(self) -> Path:
        return self.home.run / "supervisor.conf"

    def is_running(self) -> bool:
        """Whether it answers."""
        try:
            with self._rpc() as supervisor:
                supervisor.getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def start(self, programs: Iterable[Program]) -> None:
        """Start supervisor with these programs known and none of them running.

        Raises:
            StackError: supervisor does not come up.
        """
        self._write_configuration(programs)
        self._socket.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        result = subprocess.run(argv, capture_output=True, text=True, env=_marked_environment(self.home))
        if result.returncode != 0:
            raise StackError(f"Supervisor could not start: {(result.stderr or result.stdout).strip()}")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.is_running():
            if time.monotonic() > deadline:
                raise StackError(f"Supervisor does not answer; see {self.home.logs / 'supervisor.log'}.")
            time.sleep(_POLL_S)

    def start_program(self, name: str) -> None:
        """Start one program without waiting for it; no effect where it runs."""
        try:
            with self._rpc() as supervisor:
                supervisor.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.ALREADY_STARTED:
                raise StackError(
                    f"{name} cannot be started ({fault.faultString}). Where the configuration changed since the "
                    "stack was started, run `make down` first."
                ) from fault

    def stop_programs(self, names: Sequence[str], *, timeout_s: float) -> None:
        """Stop several programs side by side and wait for them; supervisor kills those that do not obey."""
        known = {state.name for state in self.states()}
        wanted = [name for name in names if name in known]
        for name in wanted:
            self._request_stop(name)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._alive(wanted):
            time.sleep(_POLL_S)

    def restart_program(self, name: str, *, timeout_s: float) -> None:
        """Stop one program cleanly and start it again."""
        self.stop_programs([name], timeout_s=timeout_s)
        self.start_program(name)

    def states(self) -> list[ProcessState]:
        """Every program, in no particular order."""
        with self._rpc() as supervisor:
            return [_process_state(info) for info in supervisor.getAllProcessInfo()]

    def shut_down(self) -> None:
        """End supervisor itself; what still runs is stopped first."""
        with self._rpc() as supervisor:
            supervisor.shutdown()

    def _request_stop(self, name: str) -> None:
        try:
            with self._rpc() as supervisor:
                supervisor.stopProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.NOT_RUNNING:
                raise

    def _alive(self, names: Sequence[str]) -> bool:
        return any(state.name in names and state.pid for state in self.states())

    @contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(_USER, self.password, f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            yield server.supervisor

    def _write_configuration(self, programs: Iterable[Program]) -> None:
        parts = [
            _HEADER.format(
                logs=self.home.logs,
                run=self.home.run,
                socket=self._socket,
                user=_USER,
                password=self.password,
            )
        ]
        for program in programs:
            script = write_launch_script(self.home, program)
            parts.append(
                _PROGRAM.format(
                    name=program.name,
                    script=script,
                    logs=self.home.logs,
                    stop_signal=program.stop_signal,
                    stop_wait_s=program.stop_wait_s,
                )
            )
        self.home.write_private(self._configuration, "".join(parts))


def _process_state(info: dict[str, Any]) -> ProcessState:
    alive = info["state"] in _ALIVE
    return ProcessState(
        name=info["name"],
        state=str(info["statename"]).lower(),
        pid=info["pid"] if alive else 0,
        started_at=info["start"],
        description=info["description"] or info["spawnerr"],
    )


def _marked_environment(home: Home) -> dict[str, str]:
    return {**os.environ, MARKER: str(home.root)}
