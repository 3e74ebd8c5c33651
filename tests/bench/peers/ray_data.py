"""Ray Data ``map_batches``: a process in Ray's own environment that embeds a file whenever it is told."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

SCRIPT = Path(__file__).with_name("ray_texts.py")


class RayData:
    """The process while it runs."""

    def __init__(self, python: Path, model: Path, *, n_actors: int) -> None:
        self._argv = [str(python), str(SCRIPT), str(model), str(n_actors)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._line(until="ready")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def seconds(self, source: Path, target: Path) -> float:
        """Embed a file of batch lines into a folder of JSON lines; seconds from file to files."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("Ray is not running")
        print(source, target, file=self._process.stdin, flush=True)
        return float(self._line())

    def _line(self, *, until: str | None = None) -> str:
        """The next line it says; with ``until`` what Ray itself prints before is passed over."""
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("Ray is not running")
        for line in self._process.stdout:
            if until is None or line.strip() == until:
                return line
        raise RuntimeError(f"Ray ended with {self._process.wait()}")
