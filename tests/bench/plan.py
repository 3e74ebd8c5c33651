"""How much is measured: the full form, and one that only shows that everything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Amounts of one run of the bench.

    Attributes:
        n_rounds: turns of job and bare encode, and of echo jobs.
        submits_per_s: fixed rate; a slow answer does not delay the next request.
    """

    n_texts: int
    n_rounds: int
    n_echo_items: int
    submits_per_s: float
    n_submits: int
    n_single_jobs: int
    n_sync_requests: int


FULL = Plan(
    n_texts=4_000,
    n_rounds=3,
    n_echo_items=50_000,
    submits_per_s=10,
    n_submits=150,
    n_single_jobs=30,
    n_sync_requests=60,
)
QUICK = Plan(
    n_texts=200,
    n_rounds=1,
    n_echo_items=1_000,
    submits_per_s=5,
    n_submits=10,
    n_single_jobs=3,
    n_sync_requests=5,
)
