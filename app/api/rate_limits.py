"""Requests per minute and tenant, with Flask-Limiter: what is sent on the routes marked ``rate_limited``.

The count is in Redis, one for all processes. Where Redis does not answer in time Flask-Limiter counts in this process's
memory until it does again: the API goes on, and a tenant gets at most its limit times the number of processes.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import redis
import structlog
from flask import Flask, Response, current_app, g, request
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter, RateLimitExceeded
from limits.storage import MemoryStorage, SlidingWindowCounterSupport
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.api import context
from app.api.blueprints import is_rate_limited
from app.domain.rate_limits import WINDOW_S, RateWindow
from app.errors import RateLimited
from app.metrics import RATE_LIMITED, RATES_IN_MEMORY
from app.services.request_rate import RequestRates
from app.wiring import Wiring

log = structlog.get_logger(__name__)

REDIS_TIMEOUT_S = 0.15
"""A healthy Redis answers in a tenth of a millisecond; a slow one must not make every request slow."""
OUTAGE_ENDS_AFTER_S = 60.0
"""So long without a request that was counted in memory, and the next one is news again."""
_STRATEGY = "sliding-window-counter"
_HEADERS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")


def install(app: Flask, wiring: Wiring) -> None:
    """Count and limit the requests of ``app``. Comes behind ``authentication``: the tenant must be known."""
    rates, outage = RequestRates(wiring), _Outage()
    # Its own look into the database: Flask-Limiter would take a failure here for one of Redis.
    app.before_request(lambda: _learn_limit(rates))
    limiter = Limiter(
        key_func=context.tenant_id,
        app=app,
        application_limits=[_limit],
        application_limits_exempt_when=lambda: not _is_tenants(),
        application_limits_cost=lambda: int(_counts()),
        strategy=_STRATEGY,
        storage_uri=wiring.settings.redis_url,
        storage_options=_storage_options(),
        in_memory_fallback_enabled=True,
    )
    app.register_error_handler(RateLimitExceeded, lambda _: _refuse(limiter))
    app.after_request(lambda response: _say(response, limiter, outage))


def _storage_options() -> dict[str, Any]:
    """One second try at once, for a connection that was closed while it lay idle."""
    return {
        "socket_timeout": REDIS_TIMEOUT_S,
        "socket_connect_timeout": REDIS_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 1),
    }


def _limit() -> str:
    """In Flask-Limiter's words; also asked for on routes without a tenant, which it then exempts."""
    return f"{g.get('requests_per_minute', 1)} per minute"


def _is_tenants() -> bool:
    return context.tenant_id_or_none() is not None


def _counts() -> bool:
    view = current_app.view_functions.get(request.endpoint or "")
    return request.method != "OPTIONS" and is_rate_limited(view)


def _learn_limit(rates: RequestRates) -> None:
    tenant_id = context.tenant_id_or_none()
    if tenant_id is not None:
        g.requests_per_minute = rates.per_minute(tenant_id)


def _refuse(limiter: Limiter) -> ResponseReturnValue:
    RATE_LIMITED.inc()
    window = _window(limiter)
    wait_s = window.retry_after_s if window else WINDOW_S
    message = (
        f"This tenant may send {g.requests_per_minute} requests a minute on submit and synchronous routes, and has; "
        f"come back in {wait_s} s, or put more items into one job."
    )
    return current_app.handle_user_exception(RateLimited(message, retry_after_s=wait_s))


def _say(response: Response, limiter: Limiter, outage: _Outage) -> Response:
    """Put the state of the tenant's limit on an answer."""
    window = _window(limiter)
    if window is None:
        return response
    if isinstance(limiter.limiter.storage, MemoryStorage):
        outage.note()
    values = (str(window.limit), str(window.remaining), f"{math.ceil(window.full_after_s)}s")
    response.headers.extend(zip(_HEADERS, values, strict=True))
    return response


def _window(limiter: Limiter) -> RateWindow | None:
    """What the tenant of this request has used; None where nobody knows: no tenant, or Redis has just gone."""
    counted = limiter.current_limit
    storage = limiter.limiter.storage
    if counted is None or not isinstance(storage, SlidingWindowCounterSupport):
        return None
    try:
        found = storage.get_sliding_window(counted.key, counted.limit.get_expiry())
    except redis.RedisError:
        return None
    previous, previous_left_s, current, current_left_s = found
    return RateWindow(
        limit=counted.limit.amount,
        previous=previous,
        previous_left_s=previous_left_s,
        current=current,
        current_left_s=current_left_s,
    )


class _Outage:
    """Counts the requests of an outage of Redis and writes one line about it."""

    def __init__(self) -> None:
        self._last_at = float("-inf")
        self._lock = threading.Lock()

    def note(self) -> None:
        """A request was counted in memory."""
        RATES_IN_MEMORY.inc()
        with self._lock:
            is_news = time.monotonic() - self._last_at > OUTAGE_ENDS_AFTER_S
            self._last_at = time.monotonic()
        if is_news:
            log.warning("rates_counted_in_memory", reason="Redis does not answer; limits hold in each process alone")
