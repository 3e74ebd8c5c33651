"""Messages, for the documentation and the first look; ``app/domain/message_params.py`` checks the rest."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema, fields

from app.schemas.fields import RequestSchema


class MessageRequestSchema(RequestSchema):
    """A message to answer now."""

    class Meta:
        """What this does not name is checked with the rest."""

        unknown = INCLUDE

    model = fields.Raw(required=True, metadata={"type": "string", "description": "One of `GET /v1/models`"})
    max_tokens = fields.Raw(required=True, metadata={"type": "integer", "minimum": 1})
    messages = fields.Raw(
        required=True,
        metadata={
            "description": "Turns of `user` and `assistant`; `content` is text, or blocks of text, images and tools",
            "type": "array",
            "minItems": 1,
            "items": {"type": "object"},
        },
    )
    system = fields.Raw(metadata={"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})
    stop_sequences = fields.Raw(metadata={"type": "array", "items": {"type": "string"}})
    temperature = fields.Raw(metadata={"type": "number", "minimum": 0, "maximum": 1})
    top_p = fields.Raw(metadata={"type": "number", "minimum": 0, "maximum": 1})
    top_k = fields.Raw(metadata={"type": "integer", "minimum": 0})
    tools = fields.Raw(metadata={"type": "array", "items": {"type": "object"}})
    tool_choice = fields.Raw(metadata={"type": "object"})
    metadata = fields.Raw(metadata={"type": "object"})


class MessageUsageSchema(Schema):
    """What a message consumed."""

    input_tokens = fields.Integer(required=True)
    cache_creation_input_tokens = fields.Integer(required=True)
    cache_read_input_tokens = fields.Integer(required=True)
    output_tokens = fields.Integer(required=True)
    service_tier = fields.String(required=True, metadata={"enum": ["standard", "batch"]})


class MessageSchema(Schema):
    """What a model answered."""

    id = fields.String(required=True)
    type = fields.String(required=True, metadata={"enum": ["message"]})
    role = fields.String(required=True, metadata={"enum": ["assistant"]})
    model = fields.String(required=True)
    content = fields.List(
        fields.Dict(), required=True, metadata={"description": "Blocks of the types `text`, `thinking` and `tool_use`"}
    )
    stop_reason = fields.String(
        required=True, metadata={"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]}
    )
    stop_sequence = fields.String(required=True, allow_none=True)
    usage = fields.Nested(MessageUsageSchema, required=True)
