"""Look whether the backing services answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import redis
from kombu import Connection

from app.errors import NightshiftError
from app.wiring import Wiring
from config.celery import transport_options
from config.settings import Settings
from config.tls import broker_tls

CHECK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class BackingService:
    """One backing service, as it was just found."""

    name: str
    required: bool
    """Whether jobs can be accepted without it."""
    reason: str | None
    """Why it is down; None where it answers."""

    @property
    def status(self) -> str:
        """``ok`` or ``down``."""
        return "ok" if self.reason is None else "down"


@dataclass(frozen=True, slots=True)
class Health:
    """All of them."""

    services: list[BackingService]

    @property
    def can_accept(self) -> bool:
        """Whether a job could be taken in now."""
        return all(service.reason is None for service in self.services if service.required)

    @property
    def status(self) -> str:
        """``ok``; ``degraded``: jobs are taken in but wait; ``unavailable``: they are refused."""
        if not self.can_accept:
            return "unavailable"
        return "ok" if all(service.reason is None for service in self.services) else "degraded"


def check_health(*, wiring: Wiring) -> Health:
    """Ask each backing service, all at once, each within a few seconds."""
    settings = wiring.settings
    checks: list[tuple[str, bool, Callable[[], None]]] = [
        ("postgres", True, wiring.database.check),
        ("object_store", True, wiring.storage.check),
        ("broker", False, lambda: _check_broker(settings)),
        ("redis", False, lambda: _check_redis(settings)),
    ]
    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        reasons = list(pool.map(lambda check: _reason(check[2]), checks))
    return Health(
        [BackingService(name, required, reason) for (name, required, _), reason in zip(checks, reasons, strict=True)]
    )


def _reason(check: Callable[[], None]) -> str | None:
    """Why a check failed. Whatever it raises is an answer here; addresses and passwords stay out of it."""
    try:
        check()
    except NightshiftError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - a vendor's error of any kind means that the service is down
        return f"does not answer ({type(error).__name__})"
    return None


def _check_broker(settings: Settings) -> None:
    options = {**transport_options(settings), "max_retries": 0}
    with Connection(
        settings.broker_url,
        connect_timeout=CHECK_TIMEOUT_S,
        ssl=broker_tls(settings),
        transport_options=options,
    ) as connection:
        connection.ensure_connection(max_retries=1, timeout=CHECK_TIMEOUT_S)


def _check_redis(settings: Settings) -> None:
    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=CHECK_TIMEOUT_S, socket_connect_timeout=CHECK_TIMEOUT_S
    )
    try:
        client.ping()
    finally:
        client.close()
