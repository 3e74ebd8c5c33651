"""Names that are looked up slowly hold up only the tenant that chose them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from app.webhooks import resolver as resolving
from app.webhooks.resolver import LOOK_UPS_OF_TENANT, NameNotResolved, SystemResolver, TooManyLookUps


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names that begin with ``slow`` are found once the event is set; the others at once."""
    found = threading.Event()

    def look_up(host: str) -> list[str]:
        if host.startswith("slow"):
            assert found.wait(60)
        return ["127.0.0.1"]

    monkeypatch.setattr(resolving, "_look_up", look_up)
    yield found
    found.set()


def test_a_tenant_whose_look_ups_hang_is_refused_at_once_and_others_are_not(slow_names: threading.Event) -> None:
    resolver = SystemResolver()
    for n in range(LOOK_UPS_OF_TENANT):
        with pytest.raises(NameNotResolved, match="TimeoutError"):
            resolver.addresses(f"slow-{n}.example.com", tenant_id="loans", timeout_s=0.01)
    with pytest.raises(TooManyLookUps):  # those that nobody waits for any more still hold their threads
        resolver.addresses("quick.example.com", tenant_id="loans", timeout_s=60)
    assert resolver.addresses("quick.example.com", tenant_id="risk", timeout_s=60) == ["127.0.0.1"]
    slow_names.set()
    resolver._threads.shutdown()
    assert not resolver._n_under_way


def test_a_look_up_that_fails_holds_nothing() -> None:
    resolver = SystemResolver()
    for _ in range(LOOK_UPS_OF_TENANT + 1):
        with pytest.raises(NameNotResolved):
            resolver.addresses("no-such-name.invalid", tenant_id="loans", timeout_s=60)
