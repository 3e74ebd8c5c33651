"""The laboratory of the fault matrix: one stack behind proxies for all rows, and what they measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_rig import ChaosRig
from fault_lab import FaultLab, write_table
from proxied_stack import proxied_stack

from app.wiring import build_wiring
from config.settings import Settings

RESULTS = Path(__file__).parents[3] / ".nightshift" / "chaos"


@pytest.fixture(scope="session")
def whole_lab() -> Iterator[FaultLab]:
    """The lab, whatever state its last fault left it in."""
    with proxied_stack(NIGHTSHIFT_CHUNK_MAX_ITEMS="5") as stack:
        wiring = build_wiring(Settings.from_environ(stack.direct_settings))
        lab = FaultLab(ChaosRig(stack, wiring), stack)
        yield lab
        write_table(lab.measured, RESULTS)
        wiring.database.close()


@pytest.fixture
def lab(whole_lab: FaultLab) -> Iterator[FaultLab]:
    """The lab with every worker well."""
    whole_lab.wait_for_workers()
    yield whole_lab
    for proxy in whole_lab.stack.proxies.values():
        proxy.heal()
