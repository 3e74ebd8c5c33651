"""A device worker of another host that joins a running stack, as its operator would start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENDS_WITHIN_S = 40


@dataclass(frozen=True, slots=True)
class JoinedWorker:
    """The process, and where it writes its log."""

    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """As if its host had lost power."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ends_with(self) -> int:
        """Wait until it ends by itself; gives its exit status."""
        return self.process.wait(timeout=ENDS_WITHIN_S)


@contextmanager
def joined_worker(
    settings: Mapping[str, str],
    folder: Path,
    *,
    queue: str,
    host: str,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
    **changes: str,
) -> Iterator[JoinedWorker]:
    """Run ``python -m workers.gpu --queue QUEUE`` on a host of that name until the block ends.

    Args:
        settings: those of the installation that it joins.
        prefix: put before the command, such as ``ip netns exec NAME``.
        changes: settings that are this host's own.
    """
    own = {"NIGHTSHIFT_HOST": host, "NIGHTSHIFT_QUEUES": queue, "TMPDIR": str(folder), **changes}
    log_file = folder / f"{host}-{queue}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "workers.gpu", "--queue", queue, *options],
            env={**os.environ, **settings, **own},
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield JoinedWorker(process, log_file)
    finally:
        process.terminate()
        try:
            process.wait(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
