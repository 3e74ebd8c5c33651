"""What gunicorn serves; each of its processes imports this module after the fork."""

from __future__ import annotations

from app.factory import create_app
from app.observability.sentry import init_sentry
from app.observability.tracing import init_tracing
from app.wiring import process_wiring
from config.logging import configure_logging

_wiring = process_wiring()
configure_logging(level=_wiring.settings.log_level, process="api")
init_sentry(_wiring.settings, process="api")
init_tracing(_wiring.settings, process="api")
app = create_app(_wiring)
