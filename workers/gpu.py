"""The device worker: ``python -m workers.gpu --queue cpu.0``.

One Celery worker, one child process, one queue, one device. The parent imports no torch and touches no
device: it only takes messages, and puts a new child in the place of one that died.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

from celery.signals import worker_init, worker_process_init, worker_process_shutdown, worker_shutting_down

from app.errors import QueueTaken
from config.models import ModelsFileError, load_models
from config.queues import pool_of, task_queues
from config.settings import Settings, SettingsError, is_queue_name, load_settings
from workers.black_box import Watchdog
from workers.device_process import DeviceProcess
from workers.engines.registry import EngineRegistry
from workers.pinning import device_of, pinned_environment
from workers.queue_claim import claim_queue


def main(argv: Sequence[str] | None = None) -> int:
    """Pin the device, then serve the queue until told to stop."""
    options = _options(argv)
    settings = load_settings()
    try:
        _check_name(options.queue, settings)
        n_cores = len(os.sched_getaffinity(0))
        os.environ.update(pinned_environment(options.queue, settings.queues, n_cores=n_cores, device=options.device))
        if options.check:
            return _check(options.queue, settings)
        with claim_queue(options.queue, settings):
            _serve(options.queue, settings)
    except (ModelsFileError, QueueTaken, SettingsError) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def _check_name(queue: str, settings: Settings) -> None:
    """Refuse a queue on which no work could ever come."""
    if not is_queue_name(queue):
        raise SettingsError(f"{queue!r} is no name of a device queue: it is a pool, a dot and a number, such as gpu.0")
    models = load_models(settings.models_file)
    pools = sorted({pool for model in models.values() for pool in model.pools})
    if pool_of(queue) not in pools:
        raise SettingsError(
            f"no model in {settings.models_file} lives on the pool {pool_of(queue)!r}, so {queue} would never get any "
            f"work; the pools there are {', '.join(pools)}"
        )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.gpu", description="Serve one device queue.")
    parser.add_argument("--queue", required=True, help="the pinned queue, such as gpu.0 or cpu.0")
    parser.add_argument(
        "--device", type=int, help="number of the GPU on this host; unless told, the number in the queue's name"
    )
    parser.add_argument("--check", action="store_true", help="load the models, say what was found, and leave")
    return parser.parse_args(argv)


def _serve(queue: str, settings: Settings) -> None:
    # The app reads the settings when it is imported; the environment is complete only now.
    from tasks.celery_app import app  # noqa: PLC0415

    # The queues of this host's other workers are nothing to this one, and its own may be in nobody's settings.
    app.conf.task_queues = task_queues([queue])
    app.conf.worker_pool = "workers.prompt_pool:TaskPool"
    process = DeviceProcess(queue, deaf_s=settings.worker_silence_s)
    watchdog = Watchdog(process.black_box, memory_limit_bytes=settings.worker_memory_bytes)
    worker_init.connect(watchdog.start, weak=False)
    worker_process_init.connect(process.start, weak=False)
    worker_process_shutdown.connect(process.stop, weak=False)
    worker_shutting_down.connect(process.leaving.set, weak=False)
    app.worker_main(
        ["worker", "-Q", queue, "-n", f"{queue}@%h", "-P", "prefork", "-c", "1", "--prefetch-multiplier", "1"]
    )


def _check(queue: str, settings: Settings) -> int:
    """Load what the worker would load, and print it as JSON."""
    device = device_of(queue)
    started_s = time.monotonic()
    engines = EngineRegistry(load_models(settings.models_file), pool=pool_of(queue), device=device)
    engines.warm()
    load_s = round(time.monotonic() - started_s, 2)
    print(json.dumps({"queue": queue, "device": device, "models": engines.warm_aliases(), "load_s": load_s}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
