"""``/v1/chat/completions`` and ``/v1/completions``: answered while the client waits."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.api.blueprints import ApiBlueprint
from app.api.sync_answers import REFUSALS, answered
from app.schemas.completions import (
    ChatCompletionRequestSchema,
    ChatCompletionSchema,
    CompletionRequestSchema,
    CompletionSchema,
)

blueprint = ApiBlueprint("completions", url_prefix="/v1", description="Chat and completions while you wait")


@blueprint.route("/chat/completions", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(*REFUSALS)
@blueprint.arguments(
    ChatCompletionRequestSchema,
    example={"model": "my-chat", "messages": [{"role": "user", "content": "Name a river."}], "max_tokens": 16},
)
@blueprint.response(200, ChatCompletionSchema)
def post_chat_completion(body: dict[str, Any]) -> Response:
    """Answer a conversation now.

    Served by the same engines as jobs, beside the running chunks. The answer comes whole: `stream` is refused. For many
    conversations send a job.
    """
    return answered("/v1/chat/completions", body)


@blueprint.route("/completions", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(*REFUSALS)
@blueprint.arguments(
    CompletionRequestSchema, example={"model": "my-chat", "prompt": "The river Tagus flows", "max_tokens": 16}
)
@blueprint.response(200, CompletionSchema)
def post_completion(body: dict[str, Any]) -> Response:
    """Continue a text now.

    Served by the same engines as jobs, beside the running chunks. The answer comes whole: `stream` is refused.
    """
    return answered("/v1/completions", body)
