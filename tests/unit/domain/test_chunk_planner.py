"""Chunks cover every item once, in order, and hold no more than their share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.chunking import ChunkLimits, ChunkPlanner, PlannedChunk, chunk_limits, estimate_tokens

SIZES = st.lists(st.integers(1, 400), max_size=60)


def plan(sizes: list[int], limits: ChunkLimits) -> list[PlannedChunk]:
    planner = ChunkPlanner(limits)
    planned, offset = [], 0
    for size in sizes:
        planned.append(planner.add(offset=offset, size_bytes=size, tokens=estimate_tokens(size, 64)))
        offset += size + 1
    return [chunk for chunk in (*planned, planner.close()) if chunk is not None]


@given(SIZES, st.integers(1, 300), st.integers(1, 10))
def test_every_item_is_in_exactly_one_chunk(sizes: list[int], tokens: int, items: int) -> None:
    chunks = plan(sizes, ChunkLimits(tokens=tokens, items=items))
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    indexes = [index for chunk in chunks for index in range(chunk.first_index, chunk.first_index + chunk.n_items)]
    assert indexes == list(range(len(sizes)))


@given(SIZES, st.integers(1, 300), st.integers(1, 10))
def test_byte_ranges_cover_whole_lines_and_never_overlap(sizes: list[int], tokens: int, items: int) -> None:
    offsets = [sum(sizes[:place]) + place for place in range(len(sizes))]
    for chunk in plan(sizes, ChunkLimits(tokens=tokens, items=items)):
        last = chunk.first_index + chunk.n_items - 1
        assert (chunk.byte_start, chunk.byte_end) == (offsets[chunk.first_index], offsets[last] + sizes[last])


@given(SIZES, st.integers(1, 300), st.integers(1, 10))
def test_a_chunk_is_full_only_within_its_limits(sizes: list[int], tokens: int, items: int) -> None:
    for chunk in plan(sizes, ChunkLimits(tokens=tokens, items=items)):
        assert 1 <= chunk.n_items <= items
        assert chunk.n_items == 1 or chunk.estimated_tokens <= tokens


@given(
    st.integers(0, 2 * 1024**3),
    st.floats(1, 1e7),
    st.floats(0.1, 60),
    st.integers(0, 64),
    st.integers(1, 10_000),
)
def test_limits_are_usable_whatever_the_job(
    size_bytes: int, tokens_per_s: float, target_s: float, n_workers: int, max_items: int
) -> None:
    limits = chunk_limits(
        input_size_bytes=size_bytes,
        tokens_per_s=tokens_per_s,
        target_s=target_s,
        n_workers=n_workers,
        max_items=max_items,
    )
    assert 1 <= limits.tokens <= max(1, target_s * tokens_per_s)
    assert limits.items == max_items


def test_a_big_job_gets_chunks_of_the_target_and_a_small_one_two_per_worker() -> None:
    def tokens(size_bytes: int) -> int:
        limits = chunk_limits(input_size_bytes=size_bytes, tokens_per_s=1000, target_s=10, n_workers=2, max_items=5000)
        return limits.tokens

    assert tokens(10**9) == 10_000
    assert tokens(4 * 20_000) == 5_000
    assert tokens(10) == 1_000


def test_the_last_chunks_shrink_so_that_all_workers_end_together() -> None:
    limits = chunk_limits(input_size_bytes=400 * 1000, tokens_per_s=1000, target_s=10, n_workers=2, max_items=100_000)
    chunks = plan([199] * 2000, limits)
    tokens = [chunk.estimated_tokens for chunk in chunks]

    assert tokens[:5] == sorted(tokens[:5], reverse=True)
    assert 9_900 <= tokens[0] <= 10_000
    assert tokens[-2] <= 1_000
    assert max(tokens[-4:]) <= 1_100  # a worker that takes the last one keeps the others waiting for a second


def test_a_line_never_costs_more_than_the_model_takes() -> None:
    assert estimate_tokens(10**9, 256) == estimate_tokens(256 * 4, 256)
    assert estimate_tokens(0, 256) > 0


@pytest.mark.parametrize(("n_items", "n_chunks"), [(99, 1), (150, 2), (400, 4), (4000, 4)])
def test_many_items_are_shared_among_the_workers_however_fast_they_are_thought_to_be(
    n_items: int, n_chunks: int
) -> None:
    limits = chunk_limits(input_size_bytes=41 * n_items, tokens_per_s=1e9, target_s=10, n_workers=4, max_items=100_000)
    assert len(plan([40] * n_items, limits)) == n_chunks
