"""Show how the service does."""

from __future__ import annotations

from app.domain.stats import ServiceStats
from app.wiring import Wiring


def show_stats(*, wiring: Wiring) -> ServiceStats:
    """The figures of the whole installation, some seconds old at most; no tenant is named."""
    return wiring.stats.read(wiring.database, wiring.settings, wiring.models)
