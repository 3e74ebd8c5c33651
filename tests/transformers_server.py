"""``transformers serve``: an OpenAI-compatible server that somebody else wrote, over a model on disk, offline."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from config.models import UpstreamServer

READY_WITHIN_S = 90


@contextmanager
def transformers_server(model: Path, folder: Path, *, port: int) -> Iterator[UpstreamServer]:
    """Serve a model on loopback until the block ends.

    Args:
        folder: for the log and whatever the server wants to keep.
    """
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model)]
    options = ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
    log_file = folder / "serve.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen([*command, *options], env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log_file)
        yield UpstreamServer(
            base_url=f"http://127.0.0.1:{port}/v1",
            model=str(model),
            api_key_variable=None,
            max_concurrency=4,
            request_timeout_s=30.0,
        )
    finally:
        process.terminate()
        process.wait(20)


def _wait(process: subprocess.Popen[bytes], url: str, log_file: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not _answers(url):
        assert process.poll() is None, log_file.read_text(errors="replace")
        assert time.monotonic() < deadline, log_file.read_text(errors="replace")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False
