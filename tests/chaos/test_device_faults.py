"""The device fails under real workers, through the protocol that a GPU's engine speaks; an item that is at fault fails
alone with the right code, and its neighbours succeed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_device import among_neighbours, breaking, broken_device
from chaos_rig import ChaosRig

MEMORY_BYTES = 500 * 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("broken")


@pytest.fixture
def broken(rig: ChaosRig, folder: Path) -> Iterator[ChaosRig]:
    """The stack with a worker that breaks as it is told, and may hold so much memory."""
    with broken_device(rig, folder, NIGHTSHIFT_WORKER_MEMORY_BYTES=str(MEMORY_BYTES)):
        yield rig


def test_whatever_the_device_does_the_item_at_fault_fails_alone_and_says_why(broken: ChaosRig) -> None:
    cases = {
        "memory": [breaking("glutton", "eats_memory", "out_of_memory")],
        "device memory": [breaking(f"small-{n}", "fits_alone", None) for n in range(5)],
        "too large": [breaking("large", "never_fits", "out_of_memory")],
        "device": [breaking("assert", "loses_device", "worker_crash")],
    }
    for items in map(list, cases.values()):
        work = among_neighbours(*items)
        job_id = broken.submit(work, max_attempts=2)
        broken.check(job_id, work)
