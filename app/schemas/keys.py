"""API keys as the administrator sees them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from app.domain.tenants import MAX_NAME_CHARS, NAME_PATTERN
from app.schemas.fields import RequestSchema, Text, Timestamp


class KeyRequestSchema(RequestSchema):
    """Whom a key is for."""

    tenant = Text(
        required=True,
        validate=[validate.Length(min=1, max=MAX_NAME_CHARS), validate.Regexp(NAME_PATTERN)],
        metadata={"description": "Name of the tenant, made where it is new", "example": "demo"},
    )
    name = Text(load_default="", validate=validate.Length(max=MAX_NAME_CHARS))


class IssuedKeySchema(Schema):
    """A new key; the only time that it is shown."""

    key = fields.String(required=True)
    key_id = fields.String(required=True)
    tenant = fields.String(required=True)


class KeySchema(Schema):
    """A key without its secret."""

    key_id = fields.String(attribute="id", required=True)
    tenant = fields.String(required=True)
    name = fields.String(required=True)
    created_at = Timestamp(required=True)
    last_used_at = Timestamp(required=True, allow_none=True)
    expires_at = Timestamp(required=True, allow_none=True)
    revoked_at = Timestamp(required=True, allow_none=True)


class KeyListSchema(Schema):
    """Keys, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(KeySchema), required=True)


class KeyListQuerySchema(RequestSchema):
    """Whose keys."""

    tenant = Text(load_default=None)


class KeyRevokedSchema(Schema):
    """The answer to a revocation."""

    key_id = fields.String(required=True)
    revoked = fields.Constant(True)
