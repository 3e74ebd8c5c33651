"""The operators' port: everything that Nightshift tells Prometheus, from one process.

What is true of work is counted from Postgres when it is asked for: it holds whichever processes and machines did the
work, and over their restarts. Requests are counted where they are answered, in files that all gunicorn processes
share (``share_metrics_folder``), and added up here. ``docs/metrics.md`` lists every metric.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from app.db.session import Database
from app.dispatch_metrics import register_dispatching
from app.fleet_metrics import FleetCollector
from app.health_metrics import HealthCollector
from app.service_metrics import ServiceCollector
from app.services.check_health import check_health
from app.webhook_metrics import WebhookCollector
from app.wiring import Wiring
from app.work_metrics import WorkCollector

log = structlog.get_logger(__name__)

TAKE_OVER_S = 5.0


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


def start_metrics_server(wiring: Wiring) -> MetricsServer:
    """Serve ``/metrics`` on the operators' address from a thread of this process."""
    settings, models, database = wiring.settings, wiring.models, wiring.database
    host, _, port = settings.metrics_bind.rpartition(":")
    registry = metrics_registry(database, settings.metrics_dir)
    registry.register(ServiceCollector(database, settings, models))
    registry.register(FleetCollector(settings, models, database))
    registry.register(WebhookCollector(database))
    registry.register(HealthCollector(database, partial(check_health, wiring=wiring)))
    register_dispatching(registry, database)
    server = MetricsServer(registry, host=host, port=int(port))
    server.start()
    return server
