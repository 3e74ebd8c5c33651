"""Which items of a job are to run again."""

from __future__ import annotations

from marshmallow import fields, validate

from app.domain.retry_plan import RETRIED_OUTCOMES
from app.schemas.fields import OptionalBodySchema, Text


class RetryRequestSchema(OptionalBodySchema):
    """A retry of a job that has ended."""

    include = fields.List(
        Text(validate=validate.OneOf(RETRIED_OUTCOMES, error="This must be one of {choices}.")),
        load_default=lambda: list(RETRIED_OUTCOMES),
        validate=validate.Length(min=1, error="This must name at least one outcome; leave it out for all."),
        metadata={"description": "Outcomes whose items run again; all three unless told"},
    )
