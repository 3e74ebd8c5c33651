"""Synchronous rankings and classes, for the documentation and the first look; the engine checks the rest."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema, fields

from app.schemas.embeddings import EmbeddingsUsageSchema
from app.schemas.fields import RequestSchema, Text


def _flag(description: str) -> fields.Raw:
    return fields.Raw(metadata={"type": "boolean", "nullable": True, "description": description})


class _ScoresRequestSchema(RequestSchema):
    """What both kinds of requests share."""

    class Meta:
        """What this does not name reaches the engine, which knows its own parameters."""

        unknown = INCLUDE

    raw_scores = _flag("Leave the scores as the model's last layer gives them")
    truncate = _flag("Cut what is longer than the model takes, instead of refusing it")
    user = fields.Raw(metadata={"type": "string", "nullable": True})


class RerankRequestSchema(_ScoresRequestSchema):
    """Documents to rank now."""

    model = Text(required=True, metadata={"example": "my-reranker"})
    query = fields.Raw(required=True, metadata={"type": "string", "minLength": 1, "example": "a river"})
    documents = fields.Raw(
        required=True,
        metadata={
            "type": "array",
            "minItems": 1,
            "items": {"oneOf": [{"type": "string"}, {"type": "object"}]},
            "description": "Strings, or objects whose `text` is taken",
            "example": ["The Tagus flows west.", "Onion soup."],
        },
    )
    top_n = fields.Raw(metadata={"type": "integer", "minimum": 0, "nullable": True, "description": "0 for all"})
    return_documents = _flag("Repeat each document beside its score; true unless told")


class RankedDocumentSchema(Schema):
    """A document and what the model thinks of it."""

    index = fields.Integer(required=True, metadata={"description": "Its place in the request"})
    relevance_score = fields.Float(required=True)
    document = fields.Raw(metadata={"type": "object", "properties": {"text": {"type": "string"}}})


class RankingSchema(Schema):
    """Documents, the best first."""

    id = fields.String(required=True)
    object = fields.Constant("rerank", metadata={"enum": ["rerank"]})
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    results = fields.List(fields.Nested(RankedDocumentSchema), required=True)
    usage = fields.Nested(EmbeddingsUsageSchema, required=True)


class ClassifyRequestSchema(_ScoresRequestSchema):
    """Texts to classify now."""

    model = Text(required=True, metadata={"example": "my-classifier"})
    input = fields.Raw(
        required=True,
        metadata={
            "description": "A string or a list of strings",
            "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "example": ["What a lovely evening."],
        },
    )


def _numbers(description: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "number"}, "description": description}


class ClassificationSchema(Schema):
    """What a text is."""

    index = fields.Integer(required=True)
    label = fields.String(required=True, metadata={"description": "The likeliest"})
    probs = fields.Raw(required=True, metadata=_numbers("Of every class, in the order of the model"))
    num_classes = fields.Integer(required=True)
    scores = fields.Raw(
        metadata={
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
            },
            "description": "The same with their labels, the likeliest first",
        }
    )


class ClassificationsSchema(Schema):
    """Classes, in the order of the texts."""

    id = fields.String(required=True)
    object = fields.Constant("list", metadata={"enum": ["list"]})
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    data = fields.List(fields.Nested(ClassificationSchema), required=True)
    usage = fields.Nested(EmbeddingsUsageSchema, required=True)
