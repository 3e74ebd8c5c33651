"""``/v1/messages``: answered while the client waits."""

from __future__ import annotations

from typing import Any

from app.api import context, held_slots
from app.api.anthropic.blueprint import AnthropicBlueprint, api_version
from app.api.sync_answers import REFUSALS
from app.schemas.messages import MessageRequestSchema, MessageSchema
from app.services.answer_message import answer_message

blueprint = AnthropicBlueprint("messages", url_prefix="/v1/messages", description="Messages while you wait")


@blueprint.route("", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(*REFUSALS)
@blueprint.arguments(
    MessageRequestSchema,
    example={"model": "chat", "max_tokens": 256, "messages": [{"role": "user", "content": "Good evening"}]},
)
@blueprint.response(200, MessageSchema)
def post_message(params: dict[str, Any]) -> dict[str, Any]:
    """Answer a message now.

    Served by the same chat models as batches. Streaming is not there yet.
    """
    own = context.context()
    with held_slots.take(context.tenant_id(), held_slots.MODEL):
        return answer_message(wiring=own.wiring, lane=own.sync_lane, params=params, version=api_version())
