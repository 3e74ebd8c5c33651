"""What is counted where requests are answered; ``metrics_server`` adds up what all processes of the API counted.

Nothing else may be imported here: whatever a process of the API counts lands in the files they share.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

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
