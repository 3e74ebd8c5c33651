"""One tenant holds so many threads of the API at once, and is refused at once above that."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from app.api.held_slots import RETRY_S, HeldSlots
from app.errors import TooManyAtOnce


def test_a_tenant_that_holds_its_share_is_refused_and_others_are_not() -> None:
    slots = HeldSlots()
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(slots.take("loans", "test webhooks", most=2))
        with (
            pytest.raises(TooManyAtOnce, match="2 test webhooks of yours") as refused,
            slots.take("loans", "test webhooks", most=2),
        ):
            pytest.fail("it was let in")
        assert refused.value.retry_after_s == RETRY_S
        held.enter_context(slots.take("risk", "test webhooks", most=2))
        held.enter_context(slots.take("loans", "chat requests", most=2))


def test_a_slot_is_free_again_however_the_request_ended() -> None:
    slots = HeldSlots()
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), slots.take("loans", "test webhooks", most=1):
            raise ValueError("broken")
    with slots.take("loans", "test webhooks", most=1):
        assert slots._n_held.total() == 1
    assert not slots._n_held
