"""Results of a job: how to walk them, and what they consist of."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from app.domain.result_pages import Cursor, GroupCursor
from app.schemas.fields import RequestSchema, Text

STATUSES = ("succeeded", "failed", "cancelled", "expired")
MAX_LINES = 1_000_000


class Statuses(fields.Field[Any]):
    """One or more outcomes, with commas between them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> frozenset[str]:
        wanted = frozenset(str(value).split(","))
        if not wanted <= set(STATUSES):
            raise ValidationError(f"This must be one or more of {', '.join(STATUSES)}.")
        return wanted


class After(Text):
    """A cursor."""

    cursor: type[Cursor | GroupCursor] = Cursor

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return self.cursor.decode(super()._deserialize(value, attr, data, **kwargs))


class GroupAfter(After):
    """A cursor of a group."""

    cursor = GroupCursor


class ResultsQuerySchema(RequestSchema):
    """Which result lines."""

    status = Statuses(
        load_default=None,
        metadata={
            "type": "string",
            "description": "Outcomes wanted, with commas between them",
            "example": "failed,expired",
        },
    )
    after = After(load_default=Cursor, metadata={"description": "A cursor out of `x-nightshift-next-cursor`"})
    limit = fields.Integer(load_default=None, validate=validate.Range(min=1, max=MAX_LINES))


class GroupResultsQuerySchema(ResultsQuerySchema):
    """Which result lines of a group."""

    after = GroupAfter(load_default=GroupCursor, metadata={"description": "A cursor out of `x-nightshift-next-cursor`"})


class ResponseSchema(Schema):
    """What the model answered."""

    status_code = fields.Integer(required=True)
    body = fields.Dict(required=True)


class ItemErrorSchema(Schema):
    """Why an item has no answer."""

    type = fields.String(required=True)
    code = fields.String(required=True)
    message = fields.String(required=True)
    retryable = fields.Boolean(required=True)


class ItemUsageSchema(Schema):
    """What an item consumed."""

    input_tokens = fields.Integer(required=True)
    output_tokens = fields.Integer(required=True)


class ResultLineSchema(Schema):
    """The outcome of one item; for the documentation, lines are passed on as they are stored."""

    custom_id = fields.String(required=True)
    index = fields.Integer(required=True, metadata={"description": "Place in the input, from 0"})
    status = fields.String(required=True, metadata={"enum": list(STATUSES)})
    response = fields.Nested(ResponseSchema, required=True, allow_none=True)
    error = fields.Nested(ItemErrorSchema, required=True, allow_none=True)
    attempts = fields.Integer(required=True)
    model_version = fields.String(required=True, allow_none=True)
    usage = fields.Nested(ItemUsageSchema, required=True, allow_none=True)


class PartSchema(Schema):
    """One immutable object of result lines."""

    seq = fields.Integer(required=True)
    outcome = fields.String(required=True)
    key = fields.String(attribute="object_key", required=True)
    bytes = fields.Integer(attribute="size_bytes", required=True)
    items = fields.Integer(attribute="n_items", required=True)
    sha256 = fields.String(required=True)


class ManifestSchema(Schema):
    """What a job's results consist of."""

    object = fields.Constant("manifest", metadata={"enum": ["manifest"]})
    job_id = fields.String(required=True)
    complete = fields.Boolean(required=True, metadata={"description": "Whether the job has ended: no part follows"})
    parts = fields.List(fields.Nested(PartSchema), required=True)
    digest = fields.String(
        required=True,
        metadata={"description": "SHA-256 over the parts' own SHA-256 as hex, each with a line end, in order"},
    )


class GroupPartSchema(PartSchema):
    """A part, and the job it belongs to."""

    job_id = fields.String(required=True)


class GroupManifestSchema(Schema):
    """What a group's results consist of."""

    object = fields.Constant("manifest", metadata={"enum": ["manifest"]})
    group_id = fields.String(required=True)
    complete = fields.Boolean(required=True, metadata={"description": "Whether the group has ended: no part follows"})
    parts = fields.List(fields.Nested(GroupPartSchema), required=True)
    digest = fields.String(
        required=True,
        metadata={"description": "SHA-256 over the parts' own SHA-256 as hex, each with a line end, in order"},
    )
