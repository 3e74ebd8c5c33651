"""``/v1/rerank`` and ``/v1/classify``: answered while the client waits.

Not OpenAI's: their shapes are those of vLLM and infinity, whose clients work against them.
"""

from __future__ import annotations

from typing import Any

from flask import Response

from app.api.blueprints import ApiBlueprint
from app.api.sync_answers import REFUSALS, answered
from app.schemas.scores import ClassificationsSchema, ClassifyRequestSchema, RankingSchema, RerankRequestSchema

blueprint = ApiBlueprint("scores", url_prefix="/v1", description="Rankings and classes while you wait")


@blueprint.route("/rerank", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(*REFUSALS)
@blueprint.arguments(
    RerankRequestSchema,
    example={"model": "my-reranker", "query": "a river", "documents": ["The Tagus flows west.", "Onion soup."]},
)
@blueprint.response(200, RankingSchema)
def post_rerank(body: dict[str, Any]) -> Response:
    """Rank documents by a query now.

    For many queries send a job: each of its items is a body of this route.
    """
    return answered("/v1/rerank", body)


@blueprint.route("/classify", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(*REFUSALS)
@blueprint.arguments(ClassifyRequestSchema, example={"model": "my-classifier", "input": ["What a lovely evening."]})
@blueprint.response(200, ClassificationsSchema)
def post_classify(body: dict[str, Any]) -> Response:
    """Classify texts now.

    For many texts send a job: each of its items is a body of this route.
    """
    return answered("/v1/classify", body)
