"""Models, in the OpenAI shape with what a batch client wants to know beside it."""

from __future__ import annotations

from marshmallow import Schema, fields


class ModelSchema(Schema):
    """A model."""

    id = fields.String(attribute="alias", required=True)
    object = fields.Constant("model", metadata={"enum": ["model"]})
    created = fields.Integer(required=True)
    owned_by = fields.String(required=True)
    engine = fields.String(required=True)
    endpoints = fields.List(fields.String(), required=True)
    max_input_tokens = fields.Integer(required=True)


class ModelListSchema(Schema):
    """All models."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(ModelSchema), required=True)
