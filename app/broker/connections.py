"""Opens connections to the broker with the timeouts that keep an alarmed broker from hanging us."""

from __future__ import annotations

from kombu import Connection

from config.celery import transport_options
from config.settings import Settings
from config.tls import broker_tls

HEARTBEAT_S = 20


def broker_connection(settings: Settings, *, heartbeat_s: int = HEARTBEAT_S) -> Connection:
    """Describe a connection; it is opened at first use. One thread at a time may use it.

    Args:
        heartbeat_s: 0 for a connection that only publishes and rests in between.
    """
    return Connection(
        settings.broker_url,
        heartbeat=0 if settings.broker_is_redis else heartbeat_s,
        connect_timeout=settings.connect_timeout_s,
        ssl=broker_tls(settings),
        transport_options=transport_options(settings),
    )
