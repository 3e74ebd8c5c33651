"""Finding and ending processes of a stack that nobody supervises any more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import psutil

from nightshift_local.home import Home
from nightshift_local.program import MARKER

_PATIENCE_S = 10
_TITLED_SERVERS = frozenset({"postgres", "redis-server"})


def stack_processes(home: Home) -> list[psutil.Process]:
    """Every process that was started by this stack, whoever its parent is now."""
    return [process for process in psutil.process_iter() if _belongs(process, str(home.root))]


def end_processes(processes: Sequence[psutil.Process]) -> None:
    """Ask them to finish, then kill those that do not."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=_PATIENCE_S)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_PATIENCE_S)


def _belongs(process: psutil.Process, stack: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return process.environ().get(MARKER) == stack or _is_its_titled_server(process, stack)
    except (psutil.Error, OSError):
        return False


def _is_its_titled_server(process: psutil.Process, stack: str) -> bool:
    """Some servers write their process title over their environment; their working folder tells instead."""
    return process.name() in _TITLED_SERVERS and process.cwd().startswith(f"{stack}/data/")
