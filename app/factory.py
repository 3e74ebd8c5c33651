"""Make the Flask application."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask

from app.api import (
    admin_keys,
    admin_tenants,
    admin_workers,
    authentication,
    context,
    docs,
    error_handlers,
    health,
    openapi,
    paths,
    rate_limits,
    request_ids,
    request_metrics,
    request_traces,
    security_headers,
)
from app.api.anthropic import batches as message_batches
from app.api.anthropic import messages
from app.api.blueprints import ApiBlueprint
from app.api.event_lane import EventLane
from app.api.json_provider import OrjsonProvider
from app.api.native import events, groups, jobs, results, schedules, stats, webhook_deliveries
from app.api.openai import batches, completions, embeddings, files, models, scores, uploads, webhook_endpoints
from app.broker.sync_client import KombuSyncLane
from app.wiring import Wiring

BLUEPRINTS: Sequence[ApiBlueprint] = (
    jobs.blueprint,
    groups.blueprint,
    results.blueprint,
    events.blueprint,
    files.blueprint,
    uploads.blueprint,
    batches.blueprint,
    models.blueprint,
    embeddings.blueprint,
    completions.blueprint,
    scores.blueprint,
    messages.blueprint,
    message_batches.blueprint,
    schedules.blueprint,
    stats.blueprint,
    webhook_endpoints.blueprint,
    webhook_endpoints.event_types_blueprint,
    webhook_deliveries.blueprint,
    admin_keys.blueprint,
    admin_tenants.blueprint,
    admin_workers.blueprint,
    health.blueprint,
    openapi.blueprint,
    docs.blueprint,
)
"""Everything that is served; a new subject is one module with its ``blueprint`` and one line here."""


class NightshiftFlask(Flask):
    """Flask with JSON by orjson."""

    json_provider_class = OrjsonProvider


def create_app(wiring: Wiring) -> Flask:
    """Make the application. Nothing is contacted: it starts with every backing service down."""
    app = NightshiftFlask("nightshift", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = wiring.settings.max_inline_bytes
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # a custom_id may hold two in a row
    app.url_map.converters[paths.TEXT] = paths.AnyText
    context.install(app, context.ApiContext(wiring, KombuSyncLane(wiring.settings), EventLane(wiring)))
    request_ids.install(app)
    request_traces.install(app)
    request_metrics.install(app)
    error_handlers.install(app)
    authentication.install(app)
    rate_limits.install(app, wiring)
    security_headers.install(app)
    api = openapi.make_api(app, public_url=wiring.settings.public_url)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    return app
