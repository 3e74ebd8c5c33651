"""A core with nobody else in it, for tests that turn it by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from core_machine import CoreMachine, core_machine

from app.domain.states import LIVE_CHUNK_STATES, LIVE_JOB_STATES


@pytest.fixture(scope="module")
def module_core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """One database for the tests of a file."""
    with core_machine(servers, chunk_max_items=4) as machine:
        yield machine


@pytest.fixture
def core(module_core: CoreMachine) -> Iterator[CoreMachine]:
    """The machine; what a test leaves behind is taken out of the next one's way."""
    yield module_core
    publisher = module_core.publisher
    module_core.sql("UPDATE jobs SET state = 'failed' WHERE state = ANY(:live)", live=sorted(LIVE_JOB_STATES))
    module_core.sql(
        "UPDATE chunks SET state = 'cancelled', lease_token = NULL WHERE state = ANY(:live)",
        live=sorted(LIVE_CHUNK_STATES),
    )
    module_core.sql("UPDATE groups SET closed_at = now() WHERE closed_at IS NULL")
    module_core.sql("DELETE FROM workers")
    for messages in (publisher.prepares, publisher.waves, publisher.finishes, publisher.leads, publisher.webhooks):
        messages.clear()
    publisher.loses_everything = False
    publisher.fails = lambda: None
