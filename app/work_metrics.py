"""Prometheus metrics about work, counted from Postgres: what waits, how long it takes, what comes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.db.repositories.device_use import DeviceUse
from app.db.repositories.measurements import Measurements
from app.db.repositories.work_history import CHUNK_BOUNDS_S, JOB_BOUNDS_S, Distribution, WorkHistory
from app.db.session import Database
from app.errors import NightshiftError

log = structlog.get_logger(__name__)

# Counting all rows is no work for every scrape of every scraper.
CACHED_S = 10.0
LATELY_S = 600.0
WAIT_BOUNDS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)


class WorkCollector(Collector):
    """Reads the state of work from Postgres at scrape time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._found: list[Metric] = []
        self._highest: dict[tuple[str, str], Distribution] = {}

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry would else collect at registration, when Postgres may not be up."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every metric about work; where Postgres does not answer, only that."""
        with self._lock:
            if time.monotonic() - self._read_at > CACHED_S:
                self._found = self._read()
                self._read_at = time.monotonic()
            yield from self._found

    def forget(self) -> None:
        """Read anew at the next scrape."""
        self._read_at = float("-inf")

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily("nightshift_database_up", "Whether Postgres answered this scrape")
        try:
            with self._database.snapshot() as connection:
                history = WorkHistory(connection)
                use = DeviceUse(connection)
                found = [*_work_metrics(Measurements(connection), history), *self._jobs(history), *_devices(use)]
        except NightshiftError as error:
            log.warning("metrics_without_database", reason=error.message)
            found = []
        up.add_metric([], 1.0 if found else 0.0)
        return [up, *found]

    def _jobs(self, history: WorkHistory) -> Iterator[Metric]:
        runs = HistogramMetricFamily(
            "nightshift_job_run_seconds", "From the first claim of a job to its end", labels=["priority"]
        )
        times = HistogramMetricFamily(
            "nightshift_job_seconds", "From acceptance of a job, or its retry, to its end", labels=["priority"]
        )
        for family, found in ((runs, history.job_runs()), (times, history.job_times())):
            yield _histogram(family, JOB_BOUNDS_S, [self._never_less(family.name, each) for each in found])
        ended = CounterMetricFamily(
            "nightshift_jobs_ended", "Jobs that ended, by whether they kept their window", labels=["priority", "window"]
        )
        for each in history.windows():
            ended.add_metric(each.label.split(" "), self._never_less(ended.name, each).n)
        yield ended

    def _never_less(self, name: str, found: Distribution) -> Distribution:
        """A job that is retried right after it ended leaves the count, and a counter that falls is taken for new."""
        highest = found.at_least(self._highest.get((name, found.label)))
        self._highest[name, found.label] = highest
        return highest


def _work_metrics(measured: Measurements, history: WorkHistory) -> Iterator[Metric]:
    yield from _queue_metrics(measured)
    yield _items(history)
    yield from _use(history)
    yield _labelled(
        GaugeMetricFamily("nightshift_jobs", "Jobs in each state", labels=["state"]), measured.jobs_by_state()
    )
    yield _histogram(
        HistogramMetricFamily("nightshift_chunk_duration_seconds", "From claim to commit of a chunk", labels=["pool"]),
        CHUNK_BOUNDS_S,
        history.chunk_durations(),
    )
    yield _histogram(
        HistogramMetricFamily(
            "nightshift_wait_seconds", "From acceptance of a job to its first claim", labels=["priority"]
        ),
        WAIT_BOUNDS_S,
        measured.waits(WAIT_BOUNDS_S),
    )
    silence = GaugeMetricFamily("nightshift_worker_silence_seconds", "Since a worker was last heard", labels=["queue"])
    yield _labelled(silence, measured.worker_ages())
    yield CounterMetricFamily(
        "nightshift_dead_letters", "Messages the broker gave up on", value=measured.count_dead_letters()
    )


def _devices(use: DeviceUse) -> Iterator[Metric]:
    idle = GaugeMetricFamily(
        "nightshift_device_idle_ratio",
        "Of the time in which a queue had work, what its device did not compute; by chunks of the last ten minutes",
        labels=["queue"],
    )
    busy = GaugeMetricFamily(
        "nightshift_device_busy_ratio", "Share of the last ten minutes that a device computed", labels=["queue"]
    )
    yield _labelled(idle, use.idle_shares(within_s=LATELY_S))
    yield _labelled(busy, use.busy_shares(within_s=LATELY_S))


def _use(history: WorkHistory) -> Iterator[Metric]:
    device = CounterMetricFamily("nightshift_device_seconds", "Seconds that devices computed", labels=["pool"])
    for pool, seconds in history.device_seconds().items():
        device.add_metric([pool], seconds)
    tokens = CounterMetricFamily("nightshift_tokens", "Tokens read and written", labels=["model", "direction"])
    for direction, by_model in history.tokens().items():
        for model, n in by_model.items():
            tokens.add_metric([model, direction], n)
    retries = CounterMetricFamily(
        "nightshift_chunk_retries", "Attempts on chunks beyond the first of each", labels=["pool"]
    )
    for pool, n in history.chunk_retries().items():
        retries.add_metric([pool], n)
    yield from (device, tokens, retries)


def _queue_metrics(measured: Measurements) -> Iterator[Metric]:
    labels = ["pool", "priority"]
    n_chunks = GaugeMetricFamily("nightshift_queue_chunks", "Chunks no worker has taken yet", labels=labels)
    n_items = GaugeMetricFamily("nightshift_queue_items", "Items no worker has taken yet", labels=labels)
    oldest = GaugeMetricFamily("nightshift_queue_oldest_age_seconds", "Age of the oldest waiting job", labels=labels)
    for depth in measured.queue_depths():
        place = [depth.pool, depth.priority]
        n_chunks.add_metric(place, depth.n_chunks)
        n_items.add_metric(place, depth.n_items)
        oldest.add_metric(place, depth.oldest_age_s)
    yield from (n_chunks, n_items, oldest)
    yield GaugeMetricFamily(
        "nightshift_jobs_unprepared", "Jobs whose input is not yet checked", value=measured.count_unprepared()
    )


def _items(history: WorkHistory) -> Metric:
    """Items by outcome; the failed ones by code, with what no chunk accounts for under ``other``."""
    family = CounterMetricFamily("nightshift_items", "Items that have their outcome", labels=["outcome", "code"])
    outcomes, codes = history.items_by_outcome(), history.failures_by_code()
    n_failed = outcomes.pop("failed", 0)
    for outcome, n in outcomes.items():
        family.add_metric([outcome, ""], n)
    for code, n in codes.items():
        family.add_metric(["failed", code], n)
    if (unexplained := n_failed - sum(codes.values())) > 0:
        family.add_metric(["failed", "other"], unexplained)
    return family


def _labelled(family: GaugeMetricFamily, values: dict[str, int] | dict[str, float]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _histogram(family: HistogramMetricFamily, bounds: Sequence[float], found: Sequence[Distribution]) -> Metric:
    for each in found:
        buckets = [(str(float(bound)), n) for bound, n in zip(bounds, each.at_most, strict=True)]
        family.add_metric([each.label], [*buckets, ("+Inf", each.n)], each.sum_s)
    return family
