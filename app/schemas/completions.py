"""Synchronous chat and completions, for the documentation and the first look; the engine checks the rest."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema, fields

from app.schemas.fields import RequestSchema, Text

_NULLABLE_TEXT = {"type": "string", "nullable": True}


def _sampling(limits: str, **metadata: Any) -> fields.Raw:
    return fields.Raw(metadata={"description": limits, "nullable": True, **metadata})


class _GenerationRequestSchema(RequestSchema):
    """What both kinds of requests share."""

    class Meta:
        """What this does not name reaches the engine, which knows its own parameters."""

        unknown = INCLUDE

    model = Text(required=True, metadata={"example": "my-chat"})
    max_tokens = _sampling("Tokens of the answer at most", type="integer", minimum=1)
    temperature = _sampling("0 takes the likeliest token each time", type="number", minimum=0, maximum=2)
    top_p = _sampling("Of the likeliest tokens those that make up so much", type="number", minimum=0, maximum=1)
    seed = _sampling("The same seed says the same again, as far as the model's server can", type="integer")
    stop = _sampling(
        "Where the answer ends; it is left out",
        oneOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    )
    stream = _sampling("Answers come whole", type="boolean", enum=[False, None])
    user = _sampling("For you; nothing is made of it", type="string")


class ChatCompletionRequestSchema(_GenerationRequestSchema):
    """A conversation to answer now."""

    messages = fields.Raw(
        required=True,
        metadata={
            "type": "array",
            "items": {"type": "object"},
            "minItems": 1,
            "description": "What was said so far, each with `role` and `content`",
            "example": [{"role": "user", "content": "Name a river."}],
        },
    )
    max_completion_tokens = _sampling("The newer name of `max_tokens`", type="integer", minimum=1)


class CompletionRequestSchema(_GenerationRequestSchema):
    """A text to continue now."""

    prompt = fields.Raw(
        required=True,
        metadata={
            "description": "A string, a list of strings, or tokens",
            "oneOf": [{"type": "string"}, {"type": "array", "items": {}}],
            "example": "The river Tagus flows",
        },
    )


class GenerationUsageSchema(Schema):
    """What the request consumed."""

    prompt_tokens = fields.Integer(required=True)
    completion_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)


class ChatMessageSchema(Schema):
    """What the model says."""

    role = fields.String(required=True, metadata={"example": "assistant"})
    content = fields.String(required=True, allow_none=True)


class ChatChoiceSchema(Schema):
    """An answer."""

    index = fields.Integer(required=True)
    message = fields.Nested(ChatMessageSchema, required=True)
    finish_reason = fields.String(required=True, metadata={"description": "stop, length, tool_calls"})
    stop_reason = fields.Raw(metadata={"description": "The stop sequence that was met, if one was", **_NULLABLE_TEXT})


class ChatCompletionSchema(Schema):
    """The answer to a conversation."""

    id = fields.String(required=True)
    object = fields.Constant("chat.completion", metadata={"enum": ["chat.completion"]})
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    choices = fields.List(fields.Nested(ChatChoiceSchema), required=True)
    usage = fields.Nested(GenerationUsageSchema, required=True)


class CompletionChoiceSchema(Schema):
    """A continuation."""

    index = fields.Integer(required=True)
    text = fields.String(required=True)
    finish_reason = fields.String(required=True)
    stop_reason = fields.Raw(metadata={"description": "The stop sequence that was met, if one was", **_NULLABLE_TEXT})


class CompletionSchema(Schema):
    """Continuations, in the order of the prompts."""

    id = fields.String(required=True)
    object = fields.Constant("text_completion", metadata={"enum": ["text_completion"]})
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    choices = fields.List(fields.Nested(CompletionChoiceSchema), required=True)
    usage = fields.Nested(GenerationUsageSchema, required=True)
