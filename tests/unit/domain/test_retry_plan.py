"""What a retry runs again: exactly the items of the outcomes asked for, each once, whatever ran before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.domain.chunks import Chunk, ItemSpan, NewChunk
from app.domain.retry_plan import RETRIED_OUTCOMES, failed_again, joined, stopped_again
from app.domain.states import ChunkState

LINE_BYTES = 40
MAX_ITEMS = 4
outcomes = st.sampled_from(["succeeded", "failed", "failed", "cancelled", "expired"])
includes = st.sets(st.sampled_from(RETRIED_OUTCOMES), min_size=1)


def chunk_of(new: NewChunk, chunk_id: int, state: ChunkState) -> Chunk:
    return Chunk(
        id=chunk_id,
        tenant_id="t",
        job_id="j",
        ordinal=chunk_id,
        state=state,
        byte_start=new.byte_start,
        byte_end=new.byte_end,
        first_index=new.first_index,
        n_items=new.n_items,
        spans=new.spans,
        estimated_tokens=new.estimated_tokens,
        estimated_s=new.estimated_s,
        attempt=1,
        worker_deaths=2,
        death_cause=None,
        lease_token=None,
    )


def ranged(first_index: int, n_items: int) -> NewChunk:
    """A chunk as the planner of a new job cuts it."""
    start = first_index * LINE_BYTES
    return NewChunk(
        byte_start=start,
        byte_end=start + n_items * LINE_BYTES - 1,
        first_index=first_index,
        n_items=n_items,
        estimated_tokens=12 * n_items,
        estimated_s=float(n_items),
    )


def spans_of(chunk: NewChunk | Chunk) -> tuple[ItemSpan, ...]:
    """Where the items of a chunk stand, read from the input where it does not say."""
    indexes = range(chunk.first_index, chunk.first_index + chunk.n_items)
    return chunk.spans or tuple(ItemSpan(index, index * LINE_BYTES, LINE_BYTES - 1, 0) for index in indexes)


@dataclass
class ModelJob:
    """A job as its parts show it: lines of one outcome each, and what took their place."""

    n_items: int
    waiting: list[NewChunk]
    parts: list[tuple[Chunk, str, dict[int, int]]] = field(default_factory=list)
    """Chunk, outcome, index -> attempts of each line."""

    def run(self, decided: Mapping[int, str]) -> None:
        """Every chunk ends: one that holds a stopped item is stopped whole, the others hold what was decided."""
        for new in self.waiting:
            ends = {span.index: decided.get(span.index, "succeeded") for span in spans_of(new)}
            stopped = next((end for end in ends.values() if end in {"cancelled", "expired"}), None)
            state = ChunkState(stopped) if stopped else ChunkState.DONE
            chunk = chunk_of(new, len(self.parts), state)
            for outcome in [stopped] if stopped else sorted(set(ends.values())):
                lines = {
                    span.index: span.attempts + (0 if stopped else 1)
                    for span in spans_of(new)
                    if stopped or ends[span.index] == outcome
                }
                self.parts.append((chunk, outcome, lines))
        self.waiting = []

    def retry(self, include: set[str]) -> None:
        """What ended so is taken out and waits again."""
        taken = [part for part in self.parts if part[1] in include]
        self.parts = [part for part in self.parts if part[1] not in include]
        failed = [failed_again(chunk, spans_of(chunk), lines) for chunk, end, lines in taken if end == "failed"]
        stopped = [stopped_again(chunk) for chunk, end, _ in taken if end != "failed"]
        self.waiting = [*joined(failed, chunk_s=100.0, max_items=MAX_ITEMS), *stopped]

    def items(self) -> Counter[int]:
        """How often each item is somewhere."""
        found = Counter(index for _, _, lines in self.parts for index in lines)
        found.update(span.index for new in self.waiting for span in spans_of(new))
        return found


@given(
    sizes=st.lists(st.integers(1, MAX_ITEMS), min_size=1, max_size=6),
    runs=st.lists(st.tuples(st.lists(outcomes, min_size=24, max_size=24), includes), min_size=1, max_size=4),
)
def test_after_any_number_of_retries_each_item_has_one_line_or_waits_once(
    sizes: list[int], runs: Sequence[tuple[list[str], set[str]]]
) -> None:
    firsts = [sum(sizes[:place]) for place in range(len(sizes))]
    job = ModelJob(sum(sizes), [ranged(first, size) for first, size in zip(firsts, sizes, strict=True)])
    everything = Counter(dict.fromkeys(range(job.n_items), 1))
    for ends, include in runs:
        job.run(dict(enumerate(ends)))
        assert job.items() == everything
        lines = {index: (end, tried) for _, end, part in job.parts for index, tried in part.items()}
        before = list(job.parts)
        job.retry(include)
        assert job.items() == everything
        waiting = {span.index: span for new in job.waiting for span in spans_of(new)}
        assert waiting.keys() == {index for index, (end, _) in lines.items() if end in include}
        assert job.parts == [part for part in before if part[1] not in include]  # the others stand untouched
        for index, span in waiting.items():
            assert span.attempts == span.attempts_before == lines[index][1]
        for new in job.waiting:
            assert new.n_items == len(spans_of(new)) <= MAX_ITEMS
            assert (new.worker_deaths, new.delay_s) == (0, 0.0)


@given(sizes=st.lists(st.integers(1, 5), max_size=12), max_items=st.integers(5, 9), chunk_s=st.floats(0.5, 20))
def test_joined_chunks_hold_the_same_items_in_order_and_stay_below_their_limits(
    sizes: list[int], max_items: int, chunk_s: float
) -> None:
    pieces = []
    for place, size in enumerate(sizes):
        chunk = chunk_of(ranged(2 * sum(sizes[:place]), 2 * size), place, ChunkState.DONE)
        pieces.append(
            failed_again(
                chunk, spans_of(chunk), dict.fromkeys(range(chunk.first_index, chunk.first_index + 2 * size, 2), 1)
            )
        )
    found = joined(pieces, chunk_s=chunk_s, max_items=max_items)
    assert [span for new in found for span in spans_of(new)] == [span for piece in pieces for span in spans_of(piece)]
    for new in found:
        is_one_piece = new in pieces
        assert new.n_items <= max_items
        assert is_one_piece or new.estimated_s <= chunk_s
        assert (new.byte_start, new.first_index) == (spans_of(new)[0].offset, spans_of(new)[0].index)
    assert sum(new.estimated_tokens for new in found) == sum(piece.estimated_tokens for piece in pieces)
    for one, next_one in pairwise(found):
        too_many = one.n_items + pieces_at(pieces, next_one).n_items > max_items
        assert too_many or one.estimated_s + pieces_at(pieces, next_one).estimated_s > chunk_s


def pieces_at(pieces: Sequence[NewChunk], chunk: NewChunk) -> NewChunk:
    """The first of the pieces that a chunk was made of."""
    return next(piece for piece in pieces if piece.first_index == chunk.first_index)
