"""Alerts, and the figures as metrics."""

from __future__ import annotations

from app.domain.stats import Percentiles, PoolStats, QueueStats, ServedStats, ServiceStats, alerts_of
from app.service_metrics import service_metrics

NOTHING = Percentiles(None, None, None)


def queue(pool: str | None, n_jobs: int, priority: str = "standard") -> QueueStats:
    return QueueStats(pool=pool, priority=priority, n_jobs=n_jobs, n_chunks=n_jobs, n_items=n_jobs, oldest_age_s=1.0)


def samples(stats: ServiceStats) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in service_metrics(stats)
        for sample in metric.samples
    }


def test_a_queue_is_deep_above_its_threshold_over_all_classes_of_a_pool() -> None:
    queues = [queue("gpu", 3000), queue("gpu", 2001, "urgent"), queue("cpu", 5000), queue(None, 6000)]
    alerts = alerts_of(queues, queue_deep_jobs=5000)
    assert [(alert.code, alert.pool, alert.value) for alert in alerts] == [
        ("queue_deep", "gpu", 5001),
        ("queue_deep", None, 6000),
    ]
    assert alerts[0].message == "5,001 jobs wait in pool gpu; more than 5,000 are a deep queue."
    assert "to be checked" in alerts[1].message


def test_figures_become_metrics_with_few_labels() -> None:
    queues = [queue("gpu", 11), queue("cpu", 1)]
    served = ServedStats(priority=None, n_ended=4, n_in_window=3, wait=NOTHING, time_to_complete=Percentiles(1, 2, 3))
    stats = ServiceStats(
        window_s=60,
        queues=queues,
        pools=[PoolStats(pool="gpu", n_jobs=11, n_workers=2, backlog_s=50.0, n_wanted=1)],
        served=[served],
        alerts=alerts_of(queues, queue_deep_jobs=10),
    )
    found = samples(stats)
    assert found["nightshift_queue_jobs", "gpu", "standard"] == 11
    assert (found["nightshift_queue_deep", "gpu"], found["nightshift_queue_deep", "cpu"]) == (1, 0)
    assert found["nightshift_in_window_ratio", "all"] == 0.75
    assert found["nightshift_time_to_complete_seconds", "all", "0.95"] == 2


def test_a_pool_without_workers_is_never_drained_and_one_nobody_reports_is_not_guessed() -> None:
    assert PoolStats(pool="p", n_jobs=1, n_workers=2, backlog_s=50.0, n_wanted=1).drained_in_s == 25
    assert PoolStats(pool="p", n_jobs=1, n_workers=0, backlog_s=50.0, n_wanted=1).drained_in_s is None
    assert PoolStats(pool="p", n_jobs=1, n_workers=None, backlog_s=None, n_wanted=1).drained_in_s is None
