"""What runs beside the tasks inside the one child of a device worker: engines, heartbeat, sync lane."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import structlog

from app.domain.items import ItemOutcome
from app.errors import DatabaseUnavailable, QueueTaken
from app.ports import ItemRunner, RunRequest
from app.services.register_worker import register_worker, unregister_worker
from app.wiring import Wiring, WorkerProcess, process_wiring, set_worker_process
from config.queues import pool_of
from workers.black_box import BlackBox
from workers.device_lock import DeviceLock
from workers.engines.base import DeviceLost, ModelUnloadable
from workers.engines.registry import EngineRegistry
from workers.engines.tuning import PassSizes
from workers.leaving import Leaving
from workers.memory import offer_to_be_killed_first
from workers.pinning import device_of
from workers.pipeline import PipelineRunner
from workers.sync_lane import SyncLaneServer

BEATS_PER_SILENCE = 5
"""Heartbeats within the time after which a silent worker is taken for dead."""
LOOK_EVERY_S = 0.25
EXIT_DEVICE_LOST = 70
CACHED_SIZES = "pass-sizes"
"""Folder of the cache."""

log = structlog.get_logger(__name__)


class DeviceProcess:
    """Set up after the fork, once in every child.

    Celery itself has the kernel kill the child when the parent dies (``process_initializer`` of its prefork
    pool), so a killed worker leaves nobody on the device.
    """

    def __init__(self, queue: str, *, deaf_s: float) -> None:
        """Made in the parent, before the fork.

        Args:
            deaf_s: how long a micro-batch may keep the other threads of the child from running.
        """
        self._queue = queue
        self.leaving = Leaving()
        self.black_box = BlackBox(deaf_s=deaf_s)
        self._incarnation = ""
        self._stopped = threading.Event()

    def start(self, **_signal: object) -> None:
        """Begin to serve; returns at once, the models load meanwhile and the first chunk waits for them."""
        offer_to_be_killed_first()
        self._stopped = threading.Event()
        wiring = process_wiring()
        self._incarnation = f"{wiring.settings.host_name}:{os.getpid()}:{time.time_ns()}"
        device = device_of(self._queue)
        engines = EngineRegistry(
            wiring.models,
            pool=pool_of(self._queue),
            device=device,
            pass_sizes=PassSizes(wiring.settings.cache_dir / CACHED_SIZES),
        )
        device_lock = DeviceLock(shared=device == "cpu")
        hang_timeout_s = wiring.settings.hang_timeout_s
        pipeline = PipelineRunner(engines, device_lock, black_box=self.black_box, hang_timeout_s=hang_timeout_s)
        worker = WorkerProcess(
            runner=ReplacedWhenDeviceIsLost(pipeline),
            queue=self._queue,
            incarnation=self._incarnation,
            is_leaving=self.leaving.is_set,
            death_notes=self.black_box,
        )
        set_worker_process(worker)
        lane = SyncLaneServer(
            wiring.settings,
            pool=pool_of(self._queue),
            engines=engines,
            device_lock=device_lock,
            device_pass=self.black_box.lane,
        )
        self._thread("load-models", lambda: _load(engines))
        self._thread("heartbeat", lambda: self._beat(wiring, engines, lane))
        self._thread("sync-lane", lambda: _serve(lane))

    def stop(self, **_signal: object) -> None:
        """Say goodbye, so that nobody waits for the silence."""
        self._stopped.set()
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        try:
            unregister_worker(database=process_wiring().database, queue=self._queue, incarnation=self._incarnation)
        except DatabaseUnavailable:
            log.warning("worker_left_unsaid", queue=self._queue)

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()

    def _beat(self, wiring: Wiring, engines: EngineRegistry, lane: SyncLaneServer) -> None:
        is_new = True
        while True:
            try:
                is_drained = register_worker(
                    database=wiring.database,
                    queue=self._queue,
                    host=wiring.settings.host_name,
                    incarnation=self._incarnation,
                    warm_models=engines.warm_aliases(),
                    unloadable_models=engines.unloadable_aliases(),
                    silence_s=wiring.settings.worker_silence_s,
                    is_new=is_new,
                )
                is_new = False
                lane.set_open(not is_drained)
            except DatabaseUnavailable:
                log.warning("heartbeat_failed", queue=self._queue)
            except QueueTaken as error:
                self._give_way(error)
                return
            except Exception:  # such as tables that are just being migrated: a worker that works must not fall silent
                log.exception("heartbeat_failed", queue=self._queue)
            if self._is_over(wiring.settings.worker_silence_s / BEATS_PER_SILENCE):
                return

    def _give_way(self, error: QueueTaken) -> None:
        """End this worker: another host took its queue over while it could not be heard."""
        log.critical("queue_taken", queue=self._queue, error=error.message)
        self.leaving.set()
        os.kill(os.getppid(), signal.SIGTERM)

    def _is_over(self, within_s: float) -> bool:
        """Wait for the next heartbeat; a worker that was told to end is granted nothing more from here on."""
        next_beat_s = time.monotonic() + within_s
        while time.monotonic() < next_beat_s:
            if self._stopped.wait(LOOK_EVERY_S):
                return True
            self.black_box.threads_run()
            if self.leaving.is_set():
                self._say_goodbye()
                return True
        return False


def _load(engines: EngineRegistry) -> None:
    try:
        engines.warm()
    except ModelUnloadable as error:
        log.error("model_unloadable", error=error.message)  # noqa: TRY400  the message says all
    else:
        log.info("models_loaded", models=engines.warm_aliases())
        # What the models and their libraries brought stays; walking it again and again took a third of an echo
        # worker's CPU time (800 -> 510 ms for 50,000 items on two workers).
        gc.collect()
        gc.freeze()


def _serve(lane: SyncLaneServer) -> None:
    try:
        lane.serve()
    except DeviceLost as error:
        _end_without_device(error)


def _end_without_device(error: DeviceLost) -> NoReturn:
    log.critical("device_lost", error=error.message)
    os._exit(EXIT_DEVICE_LOST)


class ReplacedWhenDeviceIsLost:
    """An ``ItemRunner`` that ends its process with its device: a poisoned CUDA context stays poisoned."""

    def __init__(self, runner: ItemRunner) -> None:
        self._runner = runner

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        """Run the items; on a lost device exit at once, the broker gives the chunk to the next process."""
        try:
            yield from self._runner.run(request)
        except DeviceLost as error:
            _end_without_device(error)
