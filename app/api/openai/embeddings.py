"""``/v1/embeddings``: answered while the client waits."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.errors import (
    BrokerUnavailable,
    ContextLengthExceeded,
    EngineFailed,
    ModelNotFound,
    NoWorkerForModel,
    SyncTimedOut,
)
from app.schemas.embeddings import EmbeddingsRequestSchema, EmbeddingsSchema
from app.services.answer_sync import answer_sync

blueprint = ApiBlueprint("embeddings", url_prefix="/v1/embeddings", description="Embeddings while you wait")


@blueprint.route("", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(
    ContextLengthExceeded, ModelNotFound, NoWorkerForModel, BrokerUnavailable, SyncTimedOut, EngineFailed
)
@blueprint.arguments(EmbeddingsRequestSchema, example={"model": "all-MiniLM-L6-v2", "input": "one text"})
@blueprint.response(200, EmbeddingsSchema)
def post_embeddings(body: dict[str, Any]) -> Response:
    """Embed texts now.

    Served by the same engines as jobs, between the micro-batches of running chunks. For many texts send a job.
    """
    own = context.context()
    answer = answer_sync(wiring=own.wiring, lane=own.sync_lane, endpoint="/v1/embeddings", body=body)
    return Response(answer, mimetype="application/json")
