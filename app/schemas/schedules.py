"""Schedules and their runs."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from app.domain.jobs import Dialect, JobRequest
from app.domain.schedules import Schedule, ScheduleRequest, ScheduleSource
from app.errors import InvalidRequest, MissingParameter
from app.schemas.fields import Flag, RequestSchema, Text, Timestamp
from app.schemas.jobs import CountsSchema, JobRequestSchema

MAX_NAME_CHARS = 128
MAX_CRON_CHARS = 128
MAX_PREFIX_CHARS = 256
MAX_PAGE = 100
DEFAULT_PAGE = 20
_DUE_BY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=/-]*")


def _check_due_by(text: str) -> None:
    if not _DUE_BY.fullmatch(text):
        raise ValidationError("This must be a time of day such as '08:00'.")


def _check_prefix(text: str) -> None:
    if not _PREFIX.fullmatch(text) or ".." in text or "//" in text:
        raise ValidationError(
            "This must be a path such as 'inbox/loans/': letters, digits, '.', '_', '=', '-' and '/'."
        )


class JobTemplateSchema(JobRequestSchema):
    """A job without its input, which each run brings."""

    class Meta(RequestSchema.Meta):
        """Options."""

        exclude = ("input", "inputs", "input_file_id")

    @post_load
    def make(self, data: dict[str, Any], **_kwargs: Any) -> JobRequest:
        """Make the request of what was loaded."""
        return JobRequest(
            dialect=Dialect.NATIVE,
            output_expires_after_s=data.pop("output_expires_after"),
            metadata=data.pop("metadata") or {},
            **data,
        )


class SourceSchema(RequestSchema):
    """Where the input of each run comes from: exactly one of the two."""

    file_id = Text(metadata={"description": "An uploaded file, run anew each time"})
    prefix = Text(
        validate=[validate.Length(min=1, max=MAX_PREFIX_CHARS), _check_prefix],
        metadata={
            "description": "Every `.jsonl` object under `inbox/<tenant id>/<prefix>` of the bucket that this schedule "
            "has not taken yet, one job each; an object that is put again is taken again. A leading `inbox/` is "
            "the inbox itself",
            "example": "inbox/loans/",
        },
    )

    @post_load
    def make(self, data: dict[str, Any], **_kwargs: Any) -> ScheduleSource:
        """Make the source.

        Raises:
            InvalidRequest: neither or both.
        """
        if not data:
            raise MissingParameter("one of 'file_id' and 'prefix' is required", param="source")
        if len(data) > 1:
            raise InvalidRequest("only one of 'file_id' and 'prefix' may be given", param="source")
        return ScheduleSource(**data)


class ScheduleClockSchema(RequestSchema):
    """When a schedule runs."""

    name = Text(required=True, validate=validate.Length(min=1, max=MAX_NAME_CHARS))
    cron = Text(
        required=True,
        validate=validate.Length(max=MAX_CRON_CHARS),
        metadata={"description": "minute hour day month weekday", "example": "30 2 * * *"},
    )
    timezone = Text(load_default="UTC", metadata={"description": "IANA name", "example": "Europe/Berlin"})
    due_by = Text(
        allow_none=True,
        load_default=None,
        validate=_check_due_by,
        metadata={
            "description": "`HH:MM` in the time zone: the jobs of a run get the next such moment as their deadline, "
            "in place of the template's window",
            "example": "08:00",
        },
    )


class ScheduleRequestSchema(ScheduleClockSchema):
    """A schedule to make."""

    job = fields.Nested(JobTemplateSchema, required=True)
    source = fields.Nested(SourceSchema, required=True)

    @post_load
    def make(self, data: dict[str, Any], **_kwargs: Any) -> ScheduleRequest:
        """Make the request of what was loaded."""
        return ScheduleRequest(**data)


class SchedulePatchSchema(ScheduleClockSchema):
    """What may be changed; fields that are absent stay."""

    enabled = Flag()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "partial": True})


def _shown_template(schedule: Schedule) -> dict[str, Any]:
    """The template in the names of a request, defaults filled in."""
    template = dict(schedule.job_template)
    template["output_expires_after"] = template.pop("output_expires_after_s", None)
    return template


class ScheduleSchema(Schema):
    """A schedule."""

    id = fields.String(required=True)
    object = fields.Constant("schedule", metadata={"enum": ["schedule"]})
    name = fields.String(required=True)
    cron = fields.String(required=True)
    timezone = fields.String(required=True)
    due_by = fields.String(required=True, allow_none=True)
    job = fields.Function(_shown_template, metadata={"type": "object"})
    source = fields.Function(lambda schedule: shown_source(schedule.source), metadata={"type": "object"})
    enabled = fields.Boolean(required=True)
    next_run_at = Timestamp(attribute="next_tick_at", required=True, allow_none=True)
    created_at = Timestamp(required=True)


def shown_source(source: ScheduleSource) -> dict[str, str]:
    """The one of the two that is set."""
    return {name: value for name, value in asdict(source).items() if value is not None}


class ScheduleListSchema(Schema):
    """A page of schedules, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(ScheduleSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: page.items[0].id if page.items else None, metadata={"type": "string", "nullable": True}
    )
    last_id = fields.Function(
        lambda page: page.items[-1].id if page.items else None, metadata={"type": "string", "nullable": True}
    )


class ScheduleListQuerySchema(RequestSchema):
    """How to walk the list."""

    after = Text(load_default=None, metadata={"description": "Id of the last schedule of the page before"})
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_PAGE))


class ScheduleDeletedSchema(Schema):
    """The answer to a deletion."""

    id = fields.String(required=True)
    object = fields.Constant("schedule", metadata={"enum": ["schedule"]})
    deleted = fields.Constant(True)


class RunSchema(Schema):
    """One run of a schedule."""

    id = fields.String(attribute="run.id", required=True)
    object = fields.Constant("schedule.run", metadata={"enum": ["schedule.run"]})
    schedule_id = fields.String(attribute="run.schedule_id", required=True)
    tick_at = Timestamp(
        attribute="run.tick_at", required=True, allow_none=True, metadata={"description": "Null where run by hand"}
    )
    created_at = Timestamp(attribute="run.created_at", required=True)
    job_ids = fields.List(fields.String(), attribute="run.job_ids", required=True)
    problem = fields.String(
        attribute="run.problem",
        required=True,
        allow_none=True,
        metadata={"description": "Why (some) jobs were not made"},
    )
    finished = fields.Boolean(required=True)
    counts = fields.Nested(CountsSchema, required=True)
    warnings = fields.List(
        fields.String(), required=True, metadata={"description": "Where it drifts from the last runs"}
    )


class RunListSchema(Schema):
    """A page of runs, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(RunSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: page.items[0].run.id if page.items else None, metadata={"type": "string", "nullable": True}
    )
    last_id = fields.Function(
        lambda page: page.items[-1].run.id if page.items else None, metadata={"type": "string", "nullable": True}
    )


class RunListQuerySchema(RequestSchema):
    """How to walk the list of runs."""

    after = Text(load_default=None, metadata={"description": "Id of the last run of the page before"})

    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_PAGE))
