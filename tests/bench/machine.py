"""What the figures were measured on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

LIBRARIES = ("celery", "sentence-transformers", "torch")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the software that was measured."""

    cpu: str
    n_cores: int
    memory_gib: float
    system: str
    python: str
    libraries: dict[str, str]

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {version}" for name, version in self.libraries.items())
        return (
            f"{self.cpu}, {self.n_cores} cores, {self.memory_gib:.0f} GiB memory, {self.system}, "
            f"Python {self.python}, {libraries}"
        )


def describe_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=_cpu_model(),
        n_cores=len(os.sched_getaffinity(0)),
        memory_gib=psutil.virtual_memory().total / 2**30,
        system=f"{platform.system()} {platform.release()}",
        python=".".join(map(str, sys.version_info[:3])),
        libraries={name: version(name) for name in LIBRARIES},
    )


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else platform.machine()
