"""Where a model's work may run."""

from __future__ import annotations

from app.domain.placement import Lane, lanes_for

CPU, GPU = Lane("cpu"), Lane("gpu")
BROKEN_GPU = Lane("gpu", frozenset({"m"}))


def test_work_runs_in_every_pool_of_its_model_that_has_workers() -> None:
    assert lanes_for("m", ("cpu", "gpu"), [CPU, GPU], rate_of=lambda _pool: 1.0) == ("cpu", "gpu")
    assert lanes_for("m", ("gpu",), [CPU, GPU], rate_of=lambda _pool: 1.0) == ("gpu",)
    assert lanes_for("m", ("tpu",), [CPU, GPU], rate_of=lambda _pool: 1.0) == ()
    assert lanes_for("m", ("cpu",), [], rate_of=lambda _pool: 1.0) == ()


def test_a_pool_that_is_far_slower_only_stands_in_for_the_fast_one() -> None:
    rates = {"cpu": 6_000.0, "gpu": 400_000.0}
    assert lanes_for("m", ("cpu", "gpu"), [CPU, GPU], rate_of=rates.__getitem__) == ("gpu",)
    assert lanes_for("m", ("cpu", "gpu"), [CPU], rate_of=rates.__getitem__) == ("cpu",)
    assert lanes_for("m", ("cpu", "gpu"), [CPU, BROKEN_GPU], rate_of=rates.__getitem__) == ("cpu",)


def test_workers_that_cannot_load_a_model_are_a_lane_of_their_own() -> None:
    assert lanes_for("m", ("gpu",), [GPU, BROKEN_GPU], rate_of=lambda _pool: 1.0) == ("gpu",)
    assert lanes_for("m", ("gpu",), [BROKEN_GPU], rate_of=lambda _pool: 1.0) == ()
    assert lanes_for("other", ("gpu",), [GPU, BROKEN_GPU], rate_of=lambda _pool: 1.0) == ("gpu", "gpu!m")


def test_work_without_a_usable_model_runs_anywhere_and_unknown_rates_keep_nobody_out() -> None:
    assert lanes_for(None, None, [CPU, BROKEN_GPU], rate_of=lambda _pool: 0.0) == ("cpu", "gpu!m")
