"""Puts a worker whose model breaks on purpose in the place of a stack's own device workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml
from chaos_rig import ChaosRig
from seeded_work import Expected, SeededItem, good

WORKER = Path(__file__).with_name("broken_worker.py")
QUEUE = "cpu.0"
READY_WITHIN_S = 60


@contextmanager
def broken_device(
    rig: ChaosRig, folder: Path, *, before: Callable[[], None] | None = None, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the broken worker alone on the stack; its own device workers are back afterwards.

    Args:
        folder: for the worker's log and models file.
        before: called in the new process before it becomes the worker.
        settings: further settings of the worker, ``NIGHTSHIFT_WORKER_MEMORY_BYTES="500000000"``.
    """
    supervisor = rig.stack.stack._supervisor()
    names = list(rig.settings.queues)
    environment = {**os.environ, **rig.stack.settings, **_only_echo(folder, rig.settings.models_file), **settings}
    supervisor.stop_programs(names, timeout_s=40)
    try:
        with (folder / "broken.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, str(WORKER), "--queue", QUEUE],
                env=environment,
                cwd=WORKER.parents[1],
                stdout=log,
                stderr=log,
                preexec_fn=before,  # noqa: PLW1509 - no thread of the test holds a lock that it needs
            )
        try:
            _wait_for_worker(rig)
            yield worker
        finally:
            worker.terminate()
            worker.wait(40)
    finally:
        for name in names:
            supervisor.start_program(name)


def _only_echo(folder: Path, models_file: Path) -> Mapping[str, str]:
    """A models file without weights, so that the worker's memory is its items'."""
    models = yaml.safe_load(models_file.read_text(encoding="utf-8"))
    models["models"] = [model for model in models["models"] if model["engine"] == "echo"]
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump(models), encoding="utf-8")
    return {"NIGHTSHIFT_MODELS_FILE": str(path)}


def _wait_for_worker(rig: ChaosRig) -> None:
    alive = "SELECT queue FROM workers WHERE seen_at > now() - interval '6 seconds'"
    rig.stack.wait_until(
        lambda: [row["queue"] for row in rig.sql(alive)] == [QUEUE], timeout_s=READY_WITHIN_S, what="the broken worker"
    )


def breaking(custom_id: str, how: str, code: str | None) -> SeededItem:
    """An item that breaks its worker's device; it fails with ``code``, or succeeds."""
    item = good(custom_id)
    expected = item.expected if code is None else Expected("failed", code)
    return replace(item, body={**item.body, "breaks": how}, expected=expected)


def among_neighbours(*items: SeededItem) -> list[SeededItem]:
    return [*(good(f"before-{n}") for n in range(20)), *items, *(good(f"after-{n}") for n in range(20))]
