"""Ids on disk are compared as in memory, in bounded memory."""

from __future__ import annotations

import hashlib
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from app.domain.input_lines import InputCheck, SeenInMemory
from app.domain.jobs import Dialect
from app.domain.jsonl import Line
from app.storage.spilled_ids import spilled_ids


def digest(custom_id: str) -> bytes:
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


@given(st.lists(st.sampled_from("abcdefgh")))
def test_repeats_are_those_that_memory_tells(ids: list[str]) -> None:
    memory = SeenInMemory()
    told = {}
    with spilled_ids(lambda: None) as disk:
        for number, custom_id in enumerate(ids, start=1):
            first = memory.add(digest(custom_id), number)
            if first is not None:
                told[number] = first
            assert disk.add(digest(custom_id), number) is None
        assert dict(disk.repeats()) == told


def test_late_repeats_take_their_place_among_the_problems() -> None:
    lines = [b"{", b'{"custom_id": "a", "body": {}}', b"{", b'{"custom_id": "a", "body": {}}', b"{"]
    with spilled_ids(lambda: None) as seen:
        check = InputCheck(
            dialect=Dialect.NATIVE, endpoint="/v1/echo", max_items=10, max_line_bytes=100, model="echo", seen=seen
        )
        for number, data in enumerate(lines, start=1):
            check.check(Line(number, 0, data, len(data)))
        check.finish()
    assert [(problem.line, problem.code) for problem in check.problems][2:4] == [
        (4, "duplicate_custom_id"),
        (5, "invalid_json_line"),
    ]
    assert check.n_problems == 4


def test_memory_does_not_grow_with_the_number_of_ids() -> None:
    tracemalloc.start()
    with spilled_ids(lambda: None) as seen:
        for number in range(1, 400_001):
            seen.add(digest(str(number)), number)
        assert list(seen.repeats()) == []
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 12 * 1024 * 1024
