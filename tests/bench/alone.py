"""The engine without orchestration, and the roof above it: one process for each CPU worker, pinned as that one is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.pinning import pinned_environment

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Alone:
    """Processes that hold a share of the texts each, and wait."""

    processes: Sequence[subprocess.Popen[str]]

    def seconds(self, what: str) -> float:
        """Have all run their share of ``what`` at once; seconds of the slowest.

        Raises:
            RuntimeError: one of them failed.
        """
        for process in self.processes:
            print(what, file=process.stdin, flush=True)
        return max(float(_line_of(process)) for process in self.processes)


@contextmanager
def engines_alone(source: Path, queues: Sequence[str], models_file: Path) -> Iterator[Alone]:
    """Start a process for each queue; lines of ``source`` are dealt out in turn."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    started = []
    try:
        for number, queue in enumerate(queues):
            share = source.with_name(f"{source.stem}-{number}.jsonl")
            share.write_text("".join(lines[number :: len(queues)]), encoding="utf-8")
            started.append(_start(queue, queues, models_file, share))
        for process in started:
            _line_of(process)
        yield Alone(started)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _start(queue: str, queues: Sequence[str], models_file: Path, share: Path) -> subprocess.Popen[str]:
    pinned = pinned_environment(queue, queues, n_cores=len(os.sched_getaffinity(0)))
    argv = [sys.executable, "-m", "tests.bench.engine_process", queue, str(models_file), str(share)]
    return subprocess.Popen(
        argv, cwd=ROOT, env={**os.environ, **pinned}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _line_of(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"a process that runs the engine alone ended with {process.wait()}")
    return line
