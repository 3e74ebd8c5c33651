"""gunicorn for the API: ``gunicorn -c config/gunicorn.py app.wsgi:app``.

Threads, because requests wait for Postgres and the object store. No preload: connections must not cross a fork.
"""

from __future__ import annotations

import resource

from config.settings import load_settings, share_metrics_folder

_settings = load_settings()
# Before the application, and with it prometheus_client, is imported.
share_metrics_folder(_settings.metrics_dir)

_FILES = 8_192
"""Connections, listeners to events, the database: more than the usual 1,024, which is for programs with ``select``."""
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(
    resource.RLIMIT_NOFILE, (max(_soft, _FILES if _hard == resource.RLIM_INFINITY else min(_FILES, _hard)), _hard)
)

bind = _settings.api_bind
workers = _settings.api_workers
worker_class = "app.api.gunicorn_worker.ApiWorker"
threads = _settings.api_threads
preload_app = False
# A thread that streams a long file keeps its worker alive; this is for a worker that hangs as a whole.
timeout = 120
# Below the 15 s after which a supervisor ends the process; what is cut off can be asked again.
graceful_timeout = 10
keepalive = 75
# Clients behind slow links send big uploads in bursts; the connection itself is not limited here.
worker_connections = 1000
max_requests = 0
limit_request_line = 8190
accesslog = None
# Nothing here is steered through it, and it would lie in the user's home.
control_socket_disable = True
proc_name = "nightshift-api"
