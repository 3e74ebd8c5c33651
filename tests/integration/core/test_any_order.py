"""Whatever happens in whatever order: the rows add up after each step, and every item ends once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from core_machine import CoreMachine, core_machine
from core_states import CoreStates
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from app.services import lease_keeper

N_EXAMPLES = int(os.environ.get("NIGHTSHIFT_TEST_EXAMPLES", "14"))
"""More of them, in other orders each time: ``NIGHTSHIFT_TEST_EXAMPLES=500``."""
N_USUAL = 14
N_STEPS = 40


@pytest.fixture(scope="module")
def still_core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """A core in which time stands still: leases are renewed and jobs looked at by nobody but the rules."""
    with pytest.MonkeyPatch.context() as patch, core_machine(servers, chunk_max_items=3, lease_s=3600.0) as machine:
        patch.setattr(lease_keeper, "LOOK_EVERY_S", 3600.0)
        yield machine


@pytest.mark.timeout(60 + 5 * N_EXAMPLES)
def test_whatever_happens_every_item_ends_once(still_core: CoreMachine) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis leaves it untyped
        lambda: CoreStates(still_core),
        settings=settings(
            max_examples=N_EXAMPLES,
            stateful_step_count=N_STEPS,
            deadline=None,
            derandomize=N_EXAMPLES == N_USUAL,
            phases=[Phase.generate, *([Phase.shrink] if N_EXAMPLES > N_USUAL else [])],  # which takes minutes
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
