"""Nightshift's own processes, as the local stack runs them."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nightshift_local.credentials import Credentials
from nightshift_local.home import PROJECT_ROOT, Home
from nightshift_local.ports import LOOPBACK
from nightshift_local.program import Program

PORT_NAMES = ("api", "metrics", "flower")
FLOWER_USER = "nightshift"
_MAX_CPU_WORKERS = 4
_GIVES_WAY = ("nice", "-n", "5")
"""All share a few cores here: what computes gives way to what clients wait for."""
_CELERY = (sys.executable, "-m", "celery", "-A", "tasks.celery_app")
_GPU_LIST = Path("/proc/driver/nvidia/gpus")


def device_queues() -> list[str]:
    """One pinned queue per CUDA device; without one, per core up to four. NIGHTSHIFT_QUEUES overrides."""
    configured = os.environ.get("NIGHTSHIFT_QUEUES")
    if configured:
        return [name.strip() for name in configured.split(",") if name.strip()]
    gpus = _count_gpus()
    if gpus:
        return [f"gpu.{index}" for index in range(gpus)]
    cores = len(os.sched_getaffinity(0))
    return [f"cpu.{index}" for index in range(min(cores, _MAX_CPU_WORKERS))]


def process_settings(home: Home, ports: Mapping[str, int], credentials: Credentials) -> dict[str, str]:
    """The settings that do not come from a backing server."""
    return {
        "NIGHTSHIFT_PUBLIC_URL": f"http://{LOOPBACK}:{ports['api']}",
        "NIGHTSHIFT_API_BIND": f"{LOOPBACK}:{ports['api']}",
        "NIGHTSHIFT_METRICS_BIND": f"{LOOPBACK}:{ports['metrics']}",
        "NIGHTSHIFT_METRICS_DIR": str(home.run / "metrics"),
        "NIGHTSHIFT_KEY_PEPPER": credentials.key_pepper,
        "NIGHTSHIFT_ADMIN_KEY": credentials.admin_key,
        "NIGHTSHIFT_QUEUES": ",".join(device_queues()),
        # This machine's own programs may be told; what comes from elsewhere has to be public.
        "NIGHTSHIFT_WEBHOOK_RECEIVERS": os.environ.get("NIGHTSHIFT_WEBHOOK_RECEIVERS", "127.0.0.0/8,::1/128,localhost"),
    }


def nightshift_programs(
    home: Home, *, ports: Mapping[str, int], queues: Sequence[str], flower_login: str, broker_api_url: str
) -> list[Program]:
    """The processes in the order in which they start; stopping goes the other way round."""
    return [
        _process(
            "control",
            [*_GIVES_WAY, *_CELERY, "worker", "-Q", "control", "-n", "control@%h", "-P", "prefork", "-c", "2"],
            stop_wait_s=20,
        ),
        # Threads: it waits for receivers and computes nothing.
        _process(
            "webhooks",
            [*_CELERY, "worker", "-Q", "webhooks", "-n", "webhooks@%h", "-P", "threads", "-c", "32"],
            stop_wait_s=20,
        ),
        *(_device_worker(queue) for queue in queues),
        _process("dispatcher", [sys.executable, "-m", "workers.dispatcher"]),
        _process(
            "api",
            [
                sys.executable,
                "-m",
                "gunicorn",
                "-c",
                "config/gunicorn.py",
                "--no-control-socket",
                "app.wsgi:app",
            ],
            port=ports["api"],
            stop_wait_s=15,
        ),
        _process("beat", [*_CELERY, "beat", "--pidfile=", f"--schedule={home.run / 'beat-schedule'}"]),
        _flower(port=ports["flower"], login=flower_login, broker_api_url=broker_api_url),
    ]


def _device_worker(queue: str) -> Program:
    # A chunk in work is finished first; past the wait its lease lets another worker take it.
    return _process(queue, [*_GIVES_WAY, sys.executable, "-m", "workers.gpu", "--queue", queue], stop_wait_s=30)


def _flower(*, port: int, login: str, broker_api_url: str) -> Program:
    env = {
        "FLOWER_ADDRESS": LOOPBACK,
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": login,
        "FLOWER_READ_ONLY": "true",
    }
    if broker_api_url:
        env["FLOWER_BROKER_API"] = f"{broker_api_url}/"
    return _process("flower", [*_GIVES_WAY, *_CELERY, "flower"], port=port, env=env)


def _process(
    name: str,
    argv: Sequence[str],
    *,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    stop_wait_s: int = 10,
) -> Program:
    return Program(
        name=name, argv=argv, cwd=PROJECT_ROOT, port=port, env=env or {}, stop_wait_s=stop_wait_s, shared=True
    )


def _count_gpus() -> int:
    """CUDA devices that the installed torch can use."""
    if importlib.metadata.version("torch").endswith("+cpu"):
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    if _GPU_LIST.is_dir():
        return len(list(_GPU_LIST.iterdir()))
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
