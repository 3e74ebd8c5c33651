"""Prometheus metrics, and the operators' port that serves them.

What is true of work is counted from Postgres when it is asked for: it holds whichever processes and machines did the
work, and over their restarts. Requests are counted where they are answered, in files that all gunicorn processes
share (``share_metrics_folder``), and added up here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.db.repositories.device_use import DeviceUse
from app.db.repositories.measurements import Measurements
from app.db.repositories.work_history import CHUNK_BOUNDS_S, Distribution, WorkHistory
from app.db.session import Database
from app.errors import NightshiftError
from app.fleet_metrics import FleetCollector
from app.service_metrics import ServiceCollector
from app.webhook_metrics import WebhookCollector
from config.models import load_models
from config.settings import Settings

log = structlog.get_logger(__name__)

# Counting all rows is no work for every scrape of every scraper.
CACHED_S = 10.0
TAKE_OVER_S = 5.0
IDLE_WITHIN_S = 600.0
WAIT_BOUNDS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
REQUEST_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter("nightshift_requests", "HTTP requests answered", ["method", "route", "status"])
REQUEST_DURATION = Histogram(
    "nightshift_request_duration_seconds", "Time to answer a request", ["method", "route"], buckets=REQUEST_BOUNDS_S
)

RATE_LIMITED = Counter("nightshift_rate_limited_requests", "Requests refused with rate_limit_exceeded")
RATES_IN_MEMORY = Counter(
    "nightshift_rates_in_memory_requests", "Requests whose rate one process counted alone, because Redis did not answer"
)


def observe_request(*, method: str, route: str, status: int, duration_s: float) -> None:
    """Count one answered request; ``route`` is the rule (``/v1/jobs/<id>``), never the path."""
    REQUESTS.labels(method, route, str(status)).inc()
    REQUEST_DURATION.labels(method, route).observe(duration_s)


class WorkCollector(Collector):
    """Reads the state of work from Postgres at scrape time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._found: list[Metric] = []

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

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily("nightshift_database_up", "Whether Postgres answered this scrape")
        try:
            with self._database.snapshot() as connection:
                history = WorkHistory(connection)
                found = [*_work_metrics(Measurements(connection), history), _idle(DeviceUse(connection))]
        except NightshiftError as error:
            log.warning("metrics_without_database", reason=error.message)
            found = []
        up.add_metric([], 1.0 if found else 0.0)
        return [up, *found]


def _work_metrics(measured: Measurements, history: WorkHistory) -> Iterator[Metric]:
    yield from _queue_metrics(measured)
    yield _items(history)
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


def _idle(use: DeviceUse) -> Metric:
    family = GaugeMetricFamily(
        "nightshift_device_idle_ratio",
        "Of the time in which a queue had work, what its device did not compute; by chunks of the last ten minutes",
        labels=["queue"],
    )
    return _labelled(family, use.idle_shares(within_s=IDLE_WITHIN_S))


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


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Scrapes are no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class MetricsServer:
    """Serves ``/metrics``. Where the address is taken it waits for it: a standby takes over from its leader."""

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        self._app = make_wsgi_app(registry)
        self._address = (host, port)
        self._stopping = threading.Event()
        self._server: WSGIServer | None = None
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to serve, or to wait for the address."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving and give the address back."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
        self._thread.join(timeout=TAKE_OVER_S)

    def _serve(self) -> None:
        host, port = self._address
        while not self._stopping.is_set():
            try:
                server = make_server(host, port, self._app, server_class=_Server, handler_class=_QuietHandler)
            except OSError as error:
                log.info("metrics_address_taken", host=host, port=port, reason=str(error))
                self._stopping.wait(TAKE_OVER_S)
                continue
            log.info("metrics_served", host=host, port=server.server_port)
            with server:
                self._server = server
                server.serve_forever(poll_interval=0.5)


def metrics_registry(database: Database, metrics_dir: Path) -> CollectorRegistry:
    """Everything the operators' port tells."""
    registry = CollectorRegistry()
    registry.register(WorkCollector(database))
    metrics_dir.mkdir(parents=True, exist_ok=True)
    MultiProcessCollector(registry, path=str(metrics_dir))  # type: ignore[no-untyped-call]
    return registry


def start_metrics_server(settings: Settings, database: Database) -> MetricsServer:
    """Serve ``/metrics`` on the operators' address from a thread of this process."""
    host, _, port = settings.metrics_bind.rpartition(":")
    registry = metrics_registry(database, settings.metrics_dir)
    models = load_models(settings.models_file)
    registry.register(ServiceCollector(database, settings, models))
    registry.register(FleetCollector(settings, models, database))
    registry.register(WebhookCollector(database))
    server = MetricsServer(registry, host=host, port=int(port))
    server.start()
    return server
