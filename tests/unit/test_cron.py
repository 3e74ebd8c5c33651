"""When schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cron import next_tick
from app.errors import InvalidRequest

BERLIN = "Europe/Berlin"


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _ticks(cron: str, timezone: str, *, after: str, n: int) -> list[str]:
    moment, found = _utc(after), []
    for _ in range(n):
        moment = next_tick(cron, timezone, after=moment)
        found.append(moment.strftime("%m-%d %H:%M"))
    return found


def test_a_nightly_line_follows_the_zone_through_the_year() -> None:
    assert _ticks("30 2 * * *", BERLIN, after="2026-01-10T12:00", n=1) == ["01-11 01:30"]
    assert _ticks("30 2 * * *", BERLIN, after="2026-07-10T12:00", n=1) == ["07-11 00:30"]


def test_a_run_in_the_skipped_hour_happens_once_right_behind_it() -> None:
    assert _ticks("30 2 * * *", BERLIN, after="2026-03-28T12:00", n=2) == ["03-29 01:00", "03-30 00:30"]


def test_a_run_in_the_doubled_hour_happens_once() -> None:
    assert _ticks("30 2 * * *", BERLIN, after="2026-10-24T12:00", n=2) == ["10-25 00:30", "10-26 01:30"]


def test_every_half_hour_runs_through_the_doubled_hour_in_real_time() -> None:
    assert _ticks("*/30 * * * *", BERLIN, after="2026-10-25T00:15", n=4) == [
        "10-25 00:30",
        "10-25 01:00",
        "10-25 01:30",
        "10-25 02:00",
    ]


def test_half_hour_zones_work() -> None:
    assert _ticks("0 6 * * *", "Asia/Kolkata", after="2026-05-01T12:00", n=1) == ["05-02 00:30"]
    assert _ticks("45 1 * * *", "Australia/Lord_Howe", after="2026-04-04T00:00", n=2) == ["04-04 14:45", "04-05 15:15"]


def test_aliases_are_understood() -> None:
    assert _ticks("@daily", "UTC", after="2026-05-01T12:00", n=1) == ["05-02 00:00"]


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "* * * * * * *",
        "61 * * * *",
        "R 2 * * *",
        "H * * * *",
        "0 0 30 2 *",
        "@reboot",
        "a b c d e",
        "*/0 * * * *",
        "1-99999999 * * * *",
        "\u0000 * * * *",
    ],
)
def test_a_line_that_is_never_due_is_refused_and_names_its_field(cron: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        next_tick(cron, "UTC", after=_utc("2026-01-01T00:00"))
    assert refused.value.param == "cron"


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "../etc/passwd", "Europe/Berlin\u0000", "/etc/localtime", "Europe"]
)
def test_an_unknown_zone_is_refused_and_names_its_field(zone: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        next_tick("* * * * *", zone, after=_utc("2026-01-01T00:00"))
    assert refused.value.param == "timezone"


@given(
    after=st.datetimes(
        min_value=_utc("2020-01-01T00:00").replace(tzinfo=None),
        max_value=_utc("2035-01-01T00:00").replace(tzinfo=None),
        timezones=st.just(UTC),
    ),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC", "Africa/Casablanca"]),
)
def test_a_daily_line_is_due_strictly_later_and_within_25_hours(
    after: datetime, hour: int, minute: int, zone: str
) -> None:
    tick = next_tick(f"{minute} {hour} * * *", zone, after=after)
    assert 0 < (tick - after).total_seconds() <= 25 * 3600
