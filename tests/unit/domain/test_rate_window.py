"""The sliding window of requests per minute says truly what is left and when to come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.rate_limits import WINDOW_S, RateWindow


def _at(window: RateWindow, after_s: float) -> RateWindow:
    """The window some time later, as Redis would have it: nothing was sent meanwhile."""
    previous, previous_left_s = window.previous, window.previous_left_s - after_s
    current, current_left_s = window.current, window.current_left_s - after_s
    if current_left_s < WINDOW_S:
        previous, previous_left_s, current, current_left_s = current, current_left_s, 0, 0.0
    return RateWindow(
        limit=window.limit,
        previous=previous if previous_left_s > 0 else 0,
        previous_left_s=max(0.0, previous_left_s),
        current=current,
        current_left_s=current_left_s,
    )


@st.composite
def _windows(draw: st.DrawFn) -> RateWindow:
    limit, window_left_s = draw(st.integers(1, 10_000)), draw(st.floats(0.01, WINDOW_S))
    return RateWindow(
        limit=limit,
        previous=draw(st.integers(0, limit)),
        previous_left_s=window_left_s,
        current=draw(st.integers(0, limit)),
        current_left_s=WINDOW_S + window_left_s,
    )


@given(_windows())
def test_who_comes_back_when_told_is_taken(window: RateWindow) -> None:
    assert _at(window, window.retry_after_s).remaining > 0
    assert 1 <= window.retry_after_s <= WINDOW_S + 1


@given(_windows())
def test_nobody_is_told_to_wait_longer_than_needed(window: RateWindow) -> None:
    if window.next_after_s > 1:
        assert _at(window, window.next_after_s - 0.1).remaining == 0


@given(_windows())
def test_the_whole_limit_is_there_when_it_says(window: RateWindow) -> None:
    assert _at(window, window.full_after_s + 0.001).remaining == window.limit
    assert 0 <= window.remaining <= window.limit


@pytest.mark.parametrize("limit", [1, 1_000_000])
def test_an_unused_window_is_full_at_once(limit: int) -> None:
    window = RateWindow(limit=limit, previous=0, previous_left_s=0, current=0, current_left_s=0)
    assert (window.remaining, window.full_after_s, window.next_after_s) == (limit, 0, 0)
