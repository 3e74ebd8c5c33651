from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.token_batches import TokenBatch, cut_by_budget

BUDGET = 512
ROWS = st.lists(st.integers(1, BUDGET).map(lambda length: [7] * length), max_size=120)


@given(rows=ROWS)
def test_no_batch_exceeds_the_budget_and_every_row_is_in_exactly_one(rows: list[list[int]]) -> None:
    positions = [100 + row for row in range(len(rows))]

    batches = cut_by_budget(rows, positions, tokens_per_pass=BUDGET)

    assert all(batch.n_tokens <= BUDGET for batch in batches)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(rows)))
    for batch in batches:
        assert [position - 100 for position in batch.positions] == list(batch.rows)
        assert list(batch.token_ids) == [rows[row] for row in batch.rows]
        ids, mask = batch.padded()
        assert ids.shape == mask.shape == (len(batch.rows), max(map(len, batch.token_ids)))
        assert mask.sum(axis=1).tolist() == [len(row) for row in batch.token_ids]


@given(rows=ROWS.filter(bool))
def test_halving_again_and_again_ends_at_single_rows_and_loses_none(rows: list[list[int]]) -> None:
    def leaves(batch: TokenBatch) -> list[TokenBatch]:
        halves = batch.halves()
        return [batch] if halves is None else [leaf for half in halves for leaf in leaves(half)]

    for batch in cut_by_budget(rows, list(range(len(rows))), tokens_per_pass=BUDGET):
        parts = leaves(batch)
        assert [len(part.rows) for part in parts] == [1] * len(batch.rows)
        assert [part.rows[0] for part in parts] == list(batch.rows)
