"""What a worker is called."""

from __future__ import annotations

import pytest

from app.domain.workers import WorkerState, worker_state


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"is_heard": True}, WorkerState.LIVE),
        ({"is_heard": True, "is_running": True}, WorkerState.LIVE),
        ({"is_heard": True, "is_stuck": True}, WorkerState.STUCK),
        ({"is_heard": False, "is_stuck": True}, WorkerState.SILENT),
        ({"is_drained": True, "is_heard": True, "is_running": True}, WorkerState.DRAINING),
        ({"is_drained": True, "is_heard": True}, WorkerState.DRAINED),
        ({"is_drained": True}, WorkerState.DRAINED),
    ],
)
def test_a_drain_outweighs_silence_and_silence_outweighs_being_stuck(
    facts: dict[str, bool], state: WorkerState
) -> None:
    nothing = dict.fromkeys(("is_drained", "is_heard", "is_stuck", "is_running"), False)
    assert worker_state(**{**nothing, **facts}) is state
