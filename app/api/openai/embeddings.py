"""``/v1/embeddings``: answered while the client waits."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.api.blueprints import ApiBlueprint
from app.api.sync_answers import REFUSALS, answered
from app.schemas.embeddings import EmbeddingsRequestSchema, EmbeddingsSchema

blueprint = ApiBlueprint("embeddings", url_prefix="/v1/embeddings", description="Embeddings while you wait")


@blueprint.route("", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(*REFUSALS)
@blueprint.arguments(EmbeddingsRequestSchema, example={"model": "all-MiniLM-L6-v2", "input": "one text"})
@blueprint.response(200, EmbeddingsSchema)
def post_embeddings(body: dict[str, Any]) -> Response:
    """Embed texts now.

    Served by the same engines as jobs, between the micro-batches of running chunks. For many texts send a job.
    """
    return answered("/v1/embeddings", body)
