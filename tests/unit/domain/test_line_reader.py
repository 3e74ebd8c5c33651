"""The line reader gives the same lines as ``bytes.split``, however the bytes arrive, in flat memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.jsonl import Line, read_lines

LIMIT = 12
BOM = b"\xef\xbb\xbf"
PIECES = st.sampled_from([b"\n", b"\r\n", b"\r", BOM, b"a", b"{}", b"\x00", b"\xff", b"x" * 11, b"y" * 40])
CONTENTS = st.lists(PIECES, max_size=30).map(b"".join)


class Dribble:
    """Gives its bytes in blocks of the sizes it is told, whatever is asked for."""

    def __init__(self, content: bytes, sizes: Sequence[int]) -> None:
        self._source = io.BytesIO(content)
        self._sizes = iter([*sizes, *([1] * (len(content) + 1))])

    def read(self, size: int, /) -> bytes:
        return self._source.read(min(size, next(self._sizes)))


class Endless:
    """A long run of one byte, made as it is read."""

    def __init__(self, size_bytes: int, byte: bytes = b"x") -> None:
        self._left = size_bytes
        self._byte = byte

    def read(self, size: int, /) -> bytes:
        given_bytes = min(size, self._left)
        self._left -= given_bytes
        return self._byte * given_bytes


def expected_lines(content: bytes) -> Iterator[Line]:
    """The same by the simplest means."""
    pieces = content.split(b"\n")
    n_ended = len(pieces) - 1
    if not pieces[-1]:
        pieces.pop()
    offset = 0
    for number, piece in enumerate(pieces, start=1):
        data, begins = piece, offset
        if number == 1 and data.startswith(BOM):
            data, begins = data[len(BOM) :], len(BOM)
        if number <= n_ended:
            data = data.removesuffix(b"\r")
        yield Line(number, begins, data if len(data) <= LIMIT else None, len(data))
        offset += len(piece) + 1


@given(CONTENTS, st.lists(st.integers(1, 20), max_size=40))
def test_lines_do_not_depend_on_how_the_bytes_arrive(content: bytes, sizes: list[int]) -> None:
    got = list(read_lines(Dribble(content, sizes), max_line_bytes=LIMIT))
    wanted = list(expected_lines(content))
    assert [(line.number, line.data) for line in got] == [(line.number, line.data) for line in wanted]
    # Of a line that was thrown away only its number matters.
    assert [line for line in got if line.data is not None] == [line for line in wanted if line.data is not None]


@given(CONTENTS)
def test_sizes_are_those_of_the_lines_without_their_ends(content: bytes) -> None:
    kept = [line for line in read_lines(io.BytesIO(content), max_line_bytes=LIMIT) if line.data is not None]
    assert kept == [line for line in expected_lines(content) if line.data is not None]


@given(CONTENTS, st.data())
def test_a_byte_range_gives_the_lines_that_the_whole_gave(content: bytes, data: st.DataObject) -> None:
    lines = list(read_lines(io.BytesIO(content), max_line_bytes=LIMIT))
    if not lines:
        return
    first = data.draw(st.integers(0, len(lines) - 1))
    last = data.draw(st.integers(first, len(lines) - 1))
    start, end = lines[first].offset, lines[last].offset + lines[last].size_bytes
    piece = read_lines(
        io.BytesIO(content[start:end]), max_line_bytes=LIMIT, start=start, first_number=lines[first].number
    )
    wanted = lines[first : last + 1]
    if wanted[-1].size_bytes == 0:  # an empty last line has no byte in the range; no chunk ends with one
        wanted = wanted[:-1]
    assert list(piece) == wanted


@pytest.mark.parametrize("n_bytes", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1])
def test_a_range_that_ends_between_two_carriage_returns_gives_the_same_line(n_bytes: int) -> None:
    content = b"x" * n_bytes + b"\r\r\n{}\n"
    whole, _ = read_lines(io.BytesIO(content), max_line_bytes=LIMIT)
    (alone,) = read_lines(io.BytesIO(content[: whole.size_bytes]), max_line_bytes=LIMIT)
    assert alone == whole


def test_a_line_without_an_end_is_skipped_and_not_kept() -> None:
    size_bytes = 256 * 1024 * 1024
    tracemalloc.start()
    lines = list(read_lines(Endless(size_bytes), max_line_bytes=4 * 1024 * 1024))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(line.data, line.size_bytes) for line in lines] == [(None, size_bytes)]
    assert peak_bytes < 32 * 1024 * 1024


def test_the_line_behind_one_that_is_too_long_is_read() -> None:
    content = b"x" * 100 + b"\nshort\n"
    assert [line.data for line in read_lines(Dribble(content, [7] * 30), max_line_bytes=LIMIT)] == [None, b"short"]


def test_a_line_of_exactly_the_limit_is_kept() -> None:
    content = BOM + b"x" * LIMIT + b"\r\n" + b"y" * (LIMIT + 1)
    assert [line.data for line in read_lines(io.BytesIO(content), max_line_bytes=LIMIT)] == [b"x" * LIMIT, None]
