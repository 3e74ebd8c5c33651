"""``/v1/admin/workers``: what the device workers are up to, and who of them takes no more work."""

from __future__ import annotations

from typing import Any

from app.api import context
from app.api.blueprints import Access, ApiBlueprint
from app.domain.workers import Worker
from app.errors import NotFound
from app.schemas.workers import WorkerListSchema, WorkerSchema
from app.services.drain_worker import drain_worker
from app.services.list_workers import list_workers
from app.services.undrain_worker import undrain_worker

blueprint = ApiBlueprint(
    "admin workers", url_prefix="/v1/admin/workers", access=Access.ADMIN, description="Device workers of all hosts"
)


@blueprint.route("", methods=["GET"])
@blueprint.response(200, WorkerListSchema)
def get_workers() -> dict[str, Any]:
    """List device workers."""
    return {"data": list_workers(wiring=context.wiring())}


@blueprint.route("/<queue>/drain", methods=["POST"])
@blueprint.refuses(NotFound)
@blueprint.response(200, WorkerSchema)
def post_worker_drain(queue: str) -> Worker:
    """Drain a worker.

    It finishes the chunk that it runs and takes no more, over restarts too. Draining twice is no error.
    """
    return drain_worker(wiring=context.wiring(), queue=queue)


@blueprint.route("/<queue>/undrain", methods=["POST"])
@blueprint.refuses(NotFound)
@blueprint.response(200, WorkerSchema)
def post_worker_undrain(queue: str) -> Worker:
    """Let a worker take work again.

    Undraining one that is not drained is no error.
    """
    return undrain_worker(wiring=context.wiring(), queue=queue)
