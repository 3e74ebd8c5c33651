"""How many workers a backlog asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.autoscaling import wanted_workers


@pytest.mark.parametrize(
    ("backlog_s", "wanted"), [(0.0, 0), (0.001, 1), (600.0, 1), (600.1, 2), (6_000.0, 10), (1e12, 16)]
)
def test_a_backlog_is_to_be_done_within_the_target(backlog_s: float, wanted: int) -> None:
    assert wanted_workers(backlog_s, target_s=600.0, least=0, most=16) == wanted


@given(backlog_s=st.floats(0, 1e12), more_s=st.floats(0, 1e12), least=st.integers(0, 50), span=st.integers(0, 50))
def test_it_stays_within_the_bounds_and_never_falls_when_more_waits(
    backlog_s: float, more_s: float, least: int, span: int
) -> None:
    now, later = (
        wanted_workers(seconds, target_s=600.0, least=least, most=least + span)
        for seconds in (backlog_s, backlog_s + more_s)
    )
    assert least <= now <= later <= least + span
