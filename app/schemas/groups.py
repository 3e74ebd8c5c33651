"""Groups of jobs in the native dialect."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from app.domain.groups import GroupDetails
from app.domain.jobs import JobWebhook
from app.domain.states import JobState
from app.schemas.fields import RequestSchema, Text, Timestamp
from app.schemas.jobs import (
    DEFAULT_PAGE,
    MAX_JOBS_PAGE,
    WEBHOOK_DOC,
    CostSchema,
    CountsSchema,
    UsageSchema,
    progress_of,
    shown_webhook,
)

_EXAMPLE_ID = "group_0199a0c27d4e0123456789abcdef0123"


def _validation_problems(details: GroupDetails) -> list[dict[str, Any]]:
    group = details.group
    if group.validation_errors or group.failure is None:
        return group.validation_errors
    return [{"line": None, "param": None, **group.failure}]


class GroupErrorsSchema(Schema):
    """What went wrong in a group."""

    by_code = fields.Dict(keys=fields.String(), values=fields.Integer(), attribute="errors_by_code", required=True)
    validation = fields.Function(
        _validation_problems,
        metadata={
            "type": "array",
            "items": {"$ref": "#/components/schemas/LineProblem"},
            "description": "The first 100 refused lines, numbered over the whole file",
        },
    )


def _links_of(details: GroupDetails) -> dict[str, str]:
    own = f"/v1/groups/{details.group.id}"
    verbs = ("results", "manifest", "events", "cancel", "pause", "resume", "retry")
    return {"self": own, "jobs": f"/v1/jobs?group_id={details.group.id}", **{verb: f"{own}/{verb}" for verb in verbs}}


class GroupSchema(Schema):
    """Jobs that share one input file above the limits of one job."""

    id = fields.String(attribute="group.id", required=True, metadata={"example": _EXAMPLE_ID})
    object = fields.Constant("group", metadata={"enum": ["group"]})
    state = fields.String(required=True, metadata={"enum": [state.value for state in JobState]})
    endpoint = fields.String(attribute="group.endpoint", required=True)
    model = fields.String(attribute="group.model", required=True, allow_none=True)
    priority = fields.String(attribute="group.member.priority", required=True)
    completion_window = fields.String(attribute="group.member.completion_window", required=True)
    metadata = fields.Dict(
        attribute="group.member.metadata", keys=fields.String(), values=fields.String(), required=True
    )
    input_file_id = fields.String(attribute="group.input_file_id", required=True)
    webhook = fields.Function(
        lambda details: shown_webhook(JobWebhook.read(details.group.member.get("webhook")), details.webhook_secret),
        metadata=WEBHOOK_DOC,
    )
    counts = fields.Nested(CountsSchema, required=True)
    progress = fields.Function(lambda details: progress_of(details.counts), metadata={"type": "number"})
    usage = fields.Nested(UsageSchema, required=True)
    cost = fields.Nested(CostSchema, required=True)
    errors = fields.Nested(GroupErrorsSchema, required=True)
    jobs = fields.Function(
        lambda details: [member.id for member in details.members],
        metadata={
            "type": "array",
            "items": {"type": "string"},
            "description": "Ids in the order of the input; grows while the input is being planned",
        },
    )
    created_at = Timestamp(attribute="group.created_at", required=True)
    started_at = Timestamp(required=True, allow_none=True)
    finished_at = Timestamp(required=True, allow_none=True)
    deadline_at = Timestamp(attribute="group.deadline_at", required=True)
    results_expire_at = Timestamp(attribute="group.results_expire_at", required=True, allow_none=True)
    links = fields.Function(_links_of, metadata={"type": "object", "additionalProperties": {"type": "string"}})

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Find what is not an attribute of ``GroupDetails``: ``errors`` are a view of the whole."""
        return obj if attr == "errors" else super().get_attribute(obj, attr, default)


class GroupListSchema(Schema):
    """A page of groups, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(GroupSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: page.items[0].group.id if page.items else None, metadata={"type": "string", "nullable": True}
    )
    last_id = fields.Function(
        lambda page: page.items[-1].group.id if page.items else None, metadata={"type": "string", "nullable": True}
    )


class GroupListQuerySchema(RequestSchema):
    """How to walk the list of groups."""

    after = Text(load_default=None, metadata={"description": "Id of the last group of the page before"})
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_JOBS_PAGE))
