"""The API alone, as a process of its own, before servers of the test's choice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
READY_WITHIN_S = 60
STOPS_WITHIN_S = 20


@contextmanager
def api_process(settings: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run gunicorn with these settings; gives the address.

    Args:
        folder: for its counters and its log, ``api.log``.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **os.environ,
        **settings,
        "NIGHTSHIFT_API_BIND": address,
        "NIGHTSHIFT_PUBLIC_URL": f"http://{address}",
        "NIGHTSHIFT_METRICS_DIR": str(folder / "metrics"),
        "NIGHTSHIFT_API_WORKERS": "1",
    }
    argv = [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.py", "--no-control-socket", "app.wsgi:app"]
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_it_lives(f"http://{address}")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(STOPS_WITHIN_S)


def _wait_until_it_lives(url: str) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            return _ask(url)
        except httpx.HTTPError:
            assert time.monotonic() < deadline_s, "the API does not come up"
            time.sleep(0.1)


def _ask(url: str) -> None:
    httpx.get(f"{url}/healthz", trust_env=False).raise_for_status()
