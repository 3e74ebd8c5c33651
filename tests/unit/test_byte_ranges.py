"""A piece of content that lies in several objects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.byte_ranges import Content, Segment


@given(
    objects=st.lists(st.binary(min_size=1, max_size=9), max_size=6), start=st.integers(0, 60), length=st.integers(0, 60)
)
def test_a_cut_reads_as_the_same_cut_of_the_whole(objects: list[bytes], start: int, length: int) -> None:
    content = Content(tuple(Segment(str(n), 0, len(data)) for n, data in enumerate(objects)))
    piece = content.cut(start, length)
    read = b"".join(
        objects[int(segment.object_key)][segment.start : segment.start + segment.length] for segment in piece.segments
    )
    whole = b"".join(objects)
    assert content.size_bytes == len(whole)
    assert read == whole[start : start + length]
    assert piece.size_bytes == len(read)
