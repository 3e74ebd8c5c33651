"""How much is measured: the full form, and one that only shows that everything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Amounts of one run of the bench.

    Attributes:
        n_rounds: turns of everything that takes turns.
        job_sizes: items of the echo jobs whose cost is compared; above ``n_echo_items`` they become several jobs.
        submits_per_s: fixed rate; a slow answer does not delay the next request.
        n_background_texts: of the job that runs beside synchronous requests.
        n_queued_jobs: that stand there while others are served; and tenants among whom the next is chosen.
        n_waiting_chunks: of all of these together.
        n_jobs_by_class: urgent, standard, background, each one chunk; enough that all three wait for a while.
        transfer_bytes: of the file that goes up and of the results that come down.
    """

    n_short_texts: int
    n_mixed_texts: int
    n_rounds: int
    n_echo_items: int
    job_sizes: tuple[int, ...]
    n_celery_tasks: int
    submits_per_s: float
    n_submits: int
    n_single_jobs: int
    n_sync_requests: int
    n_background_texts: int
    transfer_bytes: int
    n_delayed_items: int
    n_queued_jobs: int
    n_waiting_chunks: int
    n_jobs_by_class: tuple[int, int, int]


FULL = Plan(
    n_short_texts=6_000,
    n_mixed_texts=800,
    n_rounds=3,
    n_echo_items=50_000,
    job_sizes=(1, 10, 100, 1_000, 10_000, 50_000, 200_000, 1_000_000),
    n_celery_tasks=2_000,
    submits_per_s=50,
    n_submits=500,
    n_single_jobs=50,
    n_sync_requests=60,
    n_background_texts=5_000,
    transfer_bytes=200 * 2**20 - 2**20,
    n_delayed_items=400,
    n_queued_jobs=10_000,
    n_waiting_chunks=100_000,
    n_jobs_by_class=(96, 30, 10),
)
QUICK = Plan(
    n_short_texts=200,
    n_mixed_texts=20,
    n_rounds=1,
    n_echo_items=1_000,
    job_sizes=(1, 1_000, 2_000),
    n_celery_tasks=20,
    submits_per_s=5,
    n_submits=10,
    n_single_jobs=3,
    n_sync_requests=5,
    n_background_texts=200,
    transfer_bytes=2 * 2**20,
    n_delayed_items=20,
    n_queued_jobs=100,
    n_waiting_chunks=200,
    n_jobs_by_class=(12, 6, 3),
)
