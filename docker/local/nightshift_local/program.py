"""A supervised process: what it runs, and the script that starts it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightshift_local.home import Home

# Every process of a stack carries this variable, so that none can be left behind unseen.
MARKER = "NIGHTSHIFT_STACK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process of the stack.

    Attributes:
        name: the name in ``make ps``, of the pid file and of the log.
        port: the port a person would look for, if it has one.
        stop_signal: what asks it to finish cleanly.
        stop_wait_s: how long it may take before its process group is killed.
        shared: whether it reads the settings that all Nightshift processes share.
    """

    name: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    stop_signal: str = "TERM"
    stop_wait_s: int = 10
    shared: bool = False


def shell_exports(env: Mapping[str, str]) -> str:
    """The environment as ``export`` lines a POSIX shell can read."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())


def write_launch_script(home: Home, program: Program) -> Path:
    """Write the script that records its pid and then becomes the process.

    The pid stays true over restarts, because the shell that writes it is replaced by ``exec``. Secrets travel
    in the environment, so they are not in the process list.
    """
    pid_file = shlex.quote(str(home.pids / f"{program.name}.pid"))
    lines = [
        "#!/bin/sh",
        "set -e",
        f"echo $$ > {pid_file}.new && mv -f {pid_file}.new {pid_file}",
        f". {shlex.quote(str(home.settings_file))}" if program.shared else "",
        shell_exports({MARKER: str(home.root), **program.env}).rstrip(),
        f"cd {shlex.quote(str(program.cwd))}",
        f"exec {shlex.join(program.argv)}",
    ]
    path = home.run / f"{program.name}.sh"
    home.write_private(path, "\n".join(line for line in lines if line) + "\n", mode=0o700)
    return path
