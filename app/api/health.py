"""``/healthz`` and ``/readyz``, for load balancers and people."""

from __future__ import annotations

from http import HTTPStatus

from app.api import context
from app.api.blueprints import Access, ApiBlueprint
from app.schemas.health import LivenessSchema, ReadinessSchema
from app.services.check_health import Health, check_health

blueprint = ApiBlueprint("health", access=Access.OPEN, description="Is this server well?")


@blueprint.route("/healthz", methods=["GET"])
@blueprint.response(200, LivenessSchema)
def healthz() -> dict[str, str]:
    """Is the process alive?

    Asks no backing service.
    """
    return {"status": "ok"}


@blueprint.route("/readyz", methods=["GET"])
@blueprint.alt_response(503, schema=ReadinessSchema, description="Jobs cannot be accepted now")
@blueprint.response(200, ReadinessSchema)
def readyz() -> tuple[Health, HTTPStatus]:
    """Can this server accept jobs?

    With the broker or Redis down the status is `degraded`: jobs are accepted and run once it is back.
    """
    health = check_health(wiring=context.wiring())
    return health, HTTPStatus.OK if health.can_accept else HTTPStatus.SERVICE_UNAVAILABLE
