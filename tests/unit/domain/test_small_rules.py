"""Retries, windows, ids, prices and pages: the small rules everything else relies on."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.byte_ranges import Content, Segment
from app.domain.ids import batch_id, job_id_from, new_id
from app.domain.items import ItemErrorCode
from app.domain.jobs import Usage
from app.domain.pages import page_of
from app.domain.pricing import cost_of, no_cost
from app.domain.retries import LONGEST_DELAY_S, is_retryable, retry_delay_s
from app.domain.windows import window_seconds
from app.errors import InvalidRequest


@pytest.mark.parametrize("code", list(ItemErrorCode))
def test_only_what_may_pass_is_worth_another_attempt(code: ItemErrorCode) -> None:
    may_pass = {"item_timeout", "rate_limited", "upstream_unavailable", "out_of_memory"}
    assert is_retryable(code) is (code in may_pass)


@given(st.integers(1, 10), st.floats(0, 1))
def test_waiting_doubles_between_half_and_the_whole_of_the_backoff(attempt: int, unit: float) -> None:
    whole_s = min(LONGEST_DELAY_S, 2.0 ** (attempt - 1))
    assert whole_s / 2 <= retry_delay_s(attempt=attempt, retry_after_s=None, random_unit=unit) <= whole_s


def test_what_the_other_side_asks_for_is_a_floor() -> None:
    assert retry_delay_s(attempt=1, retry_after_s=42.0, random_unit=0.5) == 42.0
    assert retry_delay_s(attempt=8, retry_after_s=0.1, random_unit=1.0) == 128.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("90s", 90), ("15m", 900), ("1h", 3600), ("24h", 86_400), ("7d", 604_800)]
)
def test_a_window_is_read(text: str, seconds: int) -> None:
    assert window_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "59s", "8d", "0h", "-1h", "1.5h", "24", "h", "24H", " 24h", "24h\n", "24h ", "1h30m", "٢h", "9" * 9000 + "s"],
)
def test_another_window_is_refused_with_its_param(text: str) -> None:
    with pytest.raises(InvalidRequest, match="completion_window") as refused:
        window_seconds(text)
    assert refused.value.param == "completion_window"
    assert len(refused.value.message) < 300


@given(st.text(max_size=20))
def test_any_text_is_a_window_or_a_refusal(text: str) -> None:
    try:
        assert 60 <= window_seconds(text) <= 604_800
    except InvalidRequest:
        return


def test_an_id_is_the_same_job_under_every_dialects_prefix() -> None:
    job_id = new_id("job_")
    assert job_id_from(job_id) == job_id
    assert job_id_from(batch_id(job_id)) == job_id
    assert job_id_from("msgbatch_" + job_id.removeprefix("job_")) == job_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job_",
        "job_" + "0" * 31,
        "job_" + "0" * 33,
        "job_" + "g" * 32,
        "job_" + "A" * 32,
        "file-" + "0" * 32,
        "job_" + "0" * 32 + "\n",
    ],
)
def test_another_text_is_no_job_id(text: str) -> None:
    assert job_id_from(text) is None


@given(st.text(max_size=50))
def test_any_text_is_a_job_id_or_none(text: str) -> None:
    job_id_from("job_" + text)


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_id("job_") for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    stamps = [job_id[:16] for job_id in ids]
    assert stamps == sorted(stamps)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.decimals(0, 100, places=4), st.decimals(0, 1, places=2))
def test_what_is_charged_is_the_list_price_less_the_discount(
    input_tokens: int, output_tokens: int, price: Decimal, discount: Decimal
) -> None:
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    cost = cost_of(usage, price_per_million=price, batch_discount=discount, currency="EUR")
    assert cost.currency == "EUR"
    assert 0 <= cost.charged <= cost.list
    assert cost.charged == pytest.approx(cost.list - cost.discount, abs=1e-6 * max(1.0, cost.list))
    assert cost.list == pytest.approx((input_tokens + output_tokens) * float(price) / 1e6, rel=1e-9)


def test_a_million_tokens_cost_their_price() -> None:
    usage = Usage(input_tokens=1_000_000)
    cost = cost_of(usage, price_per_million=Decimal("0.02"), batch_discount=Decimal("0.5"), currency="USD")
    assert (cost.list, cost.discount, cost.charged) == (0.02, 0.01, 0.01)
    assert no_cost() == cost_of(Usage(), price_per_million=Decimal(1), batch_discount=Decimal(1), currency="USD")


@given(st.lists(st.integers(), max_size=20), st.integers(1, 10))
def test_a_page_says_whether_more_follows(rows: list[int], limit: int) -> None:
    page = page_of(rows[: limit + 1], limit)
    assert list(page.items) == rows[:limit]
    assert page.has_more is (len(rows) > limit)


@given(st.lists(st.binary(max_size=10), max_size=6), st.integers(0, 70), st.integers(0, 70))
def test_a_piece_of_a_content_is_the_slice_of_its_bytes(objects: list[bytes], start: int, length: int) -> None:
    content = Content(tuple(Segment(str(place), 0, len(data)) for place, data in enumerate(objects)))
    whole = b"".join(objects)
    piece = content.cut(start, length)
    read = b"".join(objects[int(part.object_key)][part.start : part.start + part.length] for part in piece.segments)
    assert content.size_bytes == len(whole)
    assert read == whole[start : start + length]
    assert all(part.length > 0 for part in piece.segments)
