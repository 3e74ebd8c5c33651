"""Health of a server."""

from __future__ import annotations

from marshmallow import Schema, fields


class LivenessSchema(Schema):
    """The process answers."""

    status = fields.String(required=True, metadata={"enum": ["ok"]})


class BackingServiceSchema(Schema):
    """One backing service."""

    name = fields.String(required=True)
    status = fields.String(required=True, metadata={"enum": ["ok", "down"]})
    required = fields.Boolean(required=True, metadata={"description": "Whether jobs can be accepted without it"})
    reason = fields.String(required=True, allow_none=True)


class ReadinessSchema(Schema):
    """Whether this server can take in jobs, and what it stands on."""

    status = fields.String(required=True, metadata={"enum": ["ok", "degraded", "unavailable"]})
    services = fields.List(fields.Nested(BackingServiceSchema), required=True)
