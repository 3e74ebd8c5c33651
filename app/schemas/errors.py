"""The error bodies, for the documentation."""

from __future__ import annotations

from marshmallow import Schema, fields


class ErrorDetailsSchema(Schema):
    """What went wrong."""

    type = fields.String(required=True, metadata={"description": "Family of the error"})
    code = fields.String(required=True, metadata={"description": "Stable; match on this"})
    message = fields.String(required=True, metadata={"description": "For people"})
    param = fields.String(required=True, allow_none=True, metadata={"description": "Path of the field at fault"})
    retryable = fields.Boolean(
        required=True, metadata={"description": "Whether the same request may succeed later, unchanged"}
    )
    request_id = fields.String(required=True, metadata={"description": "Also in `x-request-id` and in our logs"})


class ErrorSchema(Schema):
    """An error."""

    error = fields.Nested(ErrorDetailsSchema, required=True)


class AnthropicErrorDetailsSchema(Schema):
    """What went wrong, in the words of the Anthropic API."""

    type = fields.String(required=True, metadata={"description": "Family of the error; match on this"})
    message = fields.String(required=True, metadata={"description": "For people; names the field at fault"})


class AnthropicErrorSchema(Schema):
    """An error on `/v1/messages` and below."""

    type = fields.Constant("error", metadata={"enum": ["error"]})
    error = fields.Nested(AnthropicErrorDetailsSchema, required=True)
    request_id = fields.String(required=True, metadata={"description": "Also in `request-id` and in our logs"})
