"""Walking a result stream: whatever the parts and the page size, each line comes once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.jobs import ResultPart
from app.domain.result_pages import Cursor, PageOfLines, page_of_lines
from app.errors import InvalidRequest


def _parts(sizes: list[int]) -> list[ResultPart]:
    return [
        ResultPart(seq=seq, outcome="succeeded", object_key=f"k{seq}", size_bytes=1, n_items=size, sha256="")
        for seq, size in enumerate(sizes, start=1)
    ]


def _given(page: PageOfLines) -> list[tuple[int, int]]:
    return [(piece.part.seq, line) for piece in page.slices for line in range(piece.skip, piece.skip + piece.take)]


def _all(sizes: list[int]) -> list[tuple[int, int]]:
    return [(seq, line) for seq, size in enumerate(sizes, start=1) for line in range(size)]


@given(sizes=st.lists(st.integers(1, 7), max_size=8), limit=st.integers(1, 10))
def test_pages_put_together_are_the_stream(sizes: list[int], limit: int) -> None:
    found, cursor = [], Cursor()
    while True:
        page = page_of_lines(_parts(sizes), after=cursor, limit=limit)
        assert len(_given(page)) <= limit
        found += _given(page)
        cursor = Cursor.decode(page.end.encode())
        if not page.has_more:
            break
    assert found == _all(sizes)


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=8), seen=st.integers(0, 8))
def test_a_stream_that_grew_is_read_on_where_it_ended(sizes: list[int], seen: int) -> None:
    early = page_of_lines(_parts(sizes[:seen]), after=Cursor(), limit=None)
    late = page_of_lines(_parts(sizes), after=early.end, limit=None)
    assert _given(early) + _given(late) == _all(sizes)


def test_a_page_that_ends_with_the_stream_says_so() -> None:
    assert page_of_lines(_parts([3]), after=Cursor(), limit=3).has_more is False
    assert page_of_lines(_parts([3, 1]), after=Cursor(), limit=3).has_more is True


@pytest.mark.parametrize("text", ["", "x", "MS4x!", "é", "MQ", "LTEuMA", "MS4wLjA", "A" * 500])
def test_a_cursor_that_we_did_not_make_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        Cursor.decode(text)
    assert refusal.value.param == "after"


@given(seq=st.integers(0, 999), n_lines=st.integers(0, 999), run=st.integers(0, 99))
def test_a_cursor_tells_its_place_and_run(seq: int, n_lines: int, run: int) -> None:
    assert Cursor.decode(Cursor(seq, n_lines, run).encode()) == Cursor(seq, n_lines, run)


def test_a_part_is_behind_a_cursor_once_a_line_of_it_was_read() -> None:
    assert [seq for seq in range(5) if Cursor(3, 0).is_behind(seq)] == [0, 1, 2]
    assert [seq for seq in range(5) if Cursor(3, 1).is_behind(seq)] == [0, 1, 2, 3]
