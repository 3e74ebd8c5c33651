"""``/v1/stats``: how the service does."""

from __future__ import annotations

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.domain.stats import ServiceStats
from app.schemas.stats import StatsSchema
from app.services.show_stats import show_stats

blueprint = ApiBlueprint("stats", url_prefix="/v1/stats", description="How the service does")


@blueprint.route("", methods=["GET"])
@blueprint.response(200, StatsSchema)
def get_stats() -> ServiceStats:
    """Show queue depths, waits, kept windows and alerts.

    Sums over all tenants, some seconds old at most. What one job waits for is in its `waiting` and `eta`.
    """
    return show_stats(wiring=context.wiring())
