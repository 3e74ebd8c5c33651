"""Waiting for a process to be ready, and saying in a sentence why it is not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from nightshift_local.errors import NotReady, StackError
from nightshift_local.home import Home
from nightshift_local.ports import LOOPBACK, is_free
from nightshift_local.program import Program
from nightshift_local.supervision import ProcessState, Supervisor

_POLL_S = 0.1
_DEATHS_TO_GIVE_UP = 3
_LOW_DISK_BYTES = 50 * 1024 * 1024
_LOG_TAIL_BYTES = 8192
_PORT_TAKEN = ("ddress already in use", "eaddrinuse")


def wait_until_ready(
    home: Home,
    supervisor: Supervisor,
    program: Program,
    probe: Callable[[], None],
    *,
    timeout_s: float,
    poll_s: float = _POLL_S,
) -> None:
    """Probe until the answer is good.

    Args:
        probe: raises NotReady as long as the process cannot work.
    Raises:
        StackError: it died several times, or the time is over; names process, port, log and what was met.
    """
    deadline = time.monotonic() + timeout_s
    starts: set[int] = set()
    while True:
        try:
            return probe()
        except NotReady as reason:
            state = _state_of(supervisor, program.name)
            # Not pids: a process that dies at once is seldom caught alive.
            starts.add(state.started_at)
            if len(starts) > _DEATHS_TO_GIVE_UP or state.state == "fatal" or time.monotonic() > deadline:
                raise StackError(explain_failure(home, program, state, str(reason))) from reason
        time.sleep(poll_s)


def explain_failure(home: Home, program: Program, state: ProcessState, met: str) -> str:
    """One paragraph: which process, why as far as can be told, where to look."""
    log = home.logs / f"{program.name}.log"
    tail = _last_lines(home, program.name)
    where = f" on {LOOPBACK}:{program.port}" if program.port else ""
    cause = _known_cause(home, program, state, tail)
    last = tail.splitlines()[-1] if tail else "(nothing was logged)"
    return (
        f"{program.name} does not come up{where}: {cause or met}\n"
        f"  state: {state.state}\n  log:   {log}\n  last:  {last}"
    )


def _known_cause(home: Home, program: Program, state: ProcessState, tail: str) -> str | None:
    free_bytes = shutil.disk_usage(home.root).free
    if "No space left on device" in tail or free_bytes < _LOW_DISK_BYTES:
        free_mib = free_bytes // 2**20
        return f"the disk under {home.root} is full ({free_mib} MiB free). Free some space and try again."
    if not shutil.which(program.argv[0]):
        return f"{program.argv[0]} cannot be executed."
    if any(words in tail for words in _PORT_TAKEN) or _port_is_foreign(program, state):
        variable = f"NIGHTSHIFT_PORT_{program.name.upper()}"
        return f"port {program.port} is taken by another program. Stop that one, or set {variable}."
    return None


def _port_is_foreign(program: Program, state: ProcessState) -> bool:
    return bool(program.port and not state.pid and not is_free(program.port))


def _last_lines(home: Home, name: str) -> str:
    path = home.logs / f"{name}.log"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace").strip()


def _state_of(supervisor: Supervisor, name: str) -> ProcessState:
    return next(state for state in supervisor.states() if state.name == name)
