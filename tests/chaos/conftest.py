"""The stack of the chaos tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chaos_rig import ChaosRig
from running_stack import RunningStack

from app.wiring import Wiring, build_wiring
from config.settings import Settings


@pytest.fixture(scope="session")
def stack_wiring(running_stack: RunningStack) -> Iterator[Wiring]:
    """The stack's own rows and blobs."""
    made = build_wiring(Settings.from_environ(running_stack.settings))
    yield made
    made.database.close()


@pytest.fixture
def rig(stack: RunningStack, stack_wiring: Wiring) -> ChaosRig:
    """The stack, mended where an earlier test broke it."""
    made = ChaosRig(stack, stack_wiring)
    n_workers = len(made.settings.queues)
    alive = "SELECT count(*) AS n FROM workers WHERE seen_at > now() - interval '6 seconds'"
    stack.wait_until(lambda: made.sql(alive)[0]["n"] == n_workers, timeout_s=60, what="every device worker")
    return made
