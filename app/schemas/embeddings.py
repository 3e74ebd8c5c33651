"""Synchronous embeddings, for the documentation and the first look; the engine checks the rest."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema, fields

from app.schemas.fields import RequestSchema, Text


class EmbeddingsRequestSchema(RequestSchema):
    """Texts to embed now."""

    class Meta:
        """What this does not name reaches the engine, which knows its own parameters."""

        unknown = INCLUDE

    model = Text(required=True, metadata={"example": "all-MiniLM-L6-v2"})
    input = fields.Raw(
        required=True,
        metadata={
            "description": "A string, a list of strings, or tokens",
            "oneOf": [{"type": "string"}, {"type": "array", "items": {}}],
            "example": "a text",
        },
    )
    encoding_format = fields.Raw(metadata={"type": "string", "enum": ["float", "base64"]})
    dimensions = fields.Raw(metadata={"type": "integer", "minimum": 1})
    user = fields.Raw(metadata={"type": "string"})


class EmbeddingSchema(Schema):
    """One vector."""

    object = fields.Constant("embedding", metadata={"enum": ["embedding"]})
    index = fields.Integer(required=True)
    embedding = fields.Raw(
        required=True,
        metadata={
            "description": "Numbers, or little-endian float32 in base64",
            "oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}],
        },
    )


class EmbeddingsUsageSchema(Schema):
    """What the request consumed."""

    prompt_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)


class EmbeddingsSchema(Schema):
    """Vectors, in the order of the input."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(EmbeddingSchema), required=True)
    model = fields.String(required=True)
    usage = fields.Nested(EmbeddingsUsageSchema, required=True)
