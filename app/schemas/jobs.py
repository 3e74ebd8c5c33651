"""Jobs in the native dialect."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from app.domain.ids import batch_id, message_batch_id
from app.domain.input_lines import CUSTOM_ID_MAX_CHARS
from app.domain.jobs import (
    Counts,
    Dialect,
    Job,
    JobDetails,
    JobRequest,
    JobWebhook,
    OnDeadline,
    OnOversize,
    Priority,
)
from app.domain.message_batches import CHAT_ENDPOINT
from app.domain.states import JobState
from app.domain.webhooks import EVENT_TYPES, JOB_END_EVENTS
from app.errors import InvalidRequest, MissingParameter
from app.schemas.fields import JsonObject, Metadata, Moment, Number, RequestSchema, Text, Timestamp
from app.schemas.files import LONGEST_LIFE_S, SHORTEST_LIFE_S
from app.schemas.problems import MISSING, UNKNOWN

MAX_ATTEMPTS = 10
MAX_ITEM_TIMEOUT_S = 3_600
MAX_JOBS_PAGE = 100
DEFAULT_PAGE = 20
MAX_NAME_CHARS = 256
_EXAMPLE_ID = "job_0199a0c27d4e0123456789abcdef0123"
WINDOW_DOC = "`60s` to `7d`: an amount and one of s, m, h, d"
URL_DOC = "`https` on an allowed port of a public address, or a receiver that the operator allows"
_INPUTS = ("input", "inputs", "input_file_id")
_ITEM_FIELDS = {"custom_id", "body"}


def check_distinct(values: list[Any]) -> None:
    """Refuse a list that holds a value twice."""
    if len(set(values)) < len(values):
        raise ValidationError("Each may be named once only.")


class Inputs(fields.Field[Any]):
    """A list of strings and of ``{"custom_id", "body"}`` objects."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise ValidationError("This must be a list of at least one item.")
        first_seen: dict[str, int] = {}
        for index, item in enumerate(value):
            problem = _item_problem(item) or _repeat_problem(item, index, first_seen)
            if problem:
                raise ValidationError({index: problem})
        return tuple(value)


class Input(fields.Field[Any]):
    """One item: a string or a request body."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[Any, ...]:
        if isinstance(value, dict):
            return ({"body": value},)
        if isinstance(value, str):
            return (value,)
        raise ValidationError("This must be a string or a request body.")


def _item_problem(item: Any) -> Any:
    if isinstance(item, str):
        return None
    if not isinstance(item, dict):
        return ['This must be a string or {"custom_id", "body"}.']
    unknown = next((name for name in item if name not in _ITEM_FIELDS), None)
    if unknown is not None:
        return {unknown: [UNKNOWN]}
    if "body" not in item:
        return {"body": [MISSING]}
    if not isinstance(item["body"], dict):
        return {"body": ["This must be a JSON object."]}
    return _custom_id_problem(item["custom_id"]) if "custom_id" in item else None


def _custom_id_problem(custom_id: Any) -> Any:
    if isinstance(custom_id, str) and 0 < len(custom_id) <= CUSTOM_ID_MAX_CHARS and "\0" not in custom_id:
        return None
    return {"custom_id": [f"This must be a string of 1 to {CUSTOM_ID_MAX_CHARS} characters, without U+0000."]}


def _repeat_problem(item: Any, index: int, first_seen: dict[str, int]) -> Any:
    custom_id = item.get("custom_id") if isinstance(item, dict) else None
    if custom_id is None or first_seen.setdefault(custom_id, index) == index:
        return None
    return {"custom_id": [f"inputs[{first_seen[custom_id]}] has this custom_id already; each needs its own."]}


class StrictInteger(fields.Integer):
    """A JSON integer; neither a string of digits nor a fraction."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strict=True, **kwargs)


class JobWebhookSchema(RequestSchema):
    """Whom a job tells itself, beside the webhook endpoints of its tenant."""

    url = Text(required=True, metadata={"description": URL_DOC, "example": "https://hooks.example.com/jobs"})
    events = fields.List(
        fields.String(validate=validate.OneOf(EVENT_TYPES)),
        load_default=lambda: list(JOB_END_EVENTS),
        validate=[validate.Length(min=1, max=len(EVENT_TYPES)), check_distinct],
        metadata={"description": "Every end of a job unless told; `batch.*` for OpenAI batches only"},
    )

    @post_load
    def make(self, data: dict[str, Any], **_kwargs: Any) -> JobWebhook:
        """Make the webhook of what was loaded."""
        return JobWebhook(url=data["url"], events=tuple(data["events"]))


class SteeringSchema(RequestSchema):
    """How a job is to run; the fields that an OpenAI batch may carry under ``nightshift``."""

    model = Text(allow_none=True, load_default=None, validate=validate.Length(min=1, max=MAX_NAME_CHARS))
    parameters = JsonObject(load_default=dict, metadata={"description": "Merged under each item's body"})
    priority = fields.Enum(Priority, by_value=True, load_default=Priority.STANDARD)
    on_deadline = fields.Enum(OnDeadline, by_value=True, load_default=OnDeadline.EXPIRE)
    max_attempts = StrictInteger(load_default=3, validate=validate.Range(min=1, max=MAX_ATTEMPTS))
    item_timeout_s = Number(
        allow_none=True,
        load_default=None,
        validate=validate.Range(min=0, min_inclusive=False, max=MAX_ITEM_TIMEOUT_S),
        metadata={"exclusiveMinimum": True},
    )
    on_oversize = fields.Enum(OnOversize, by_value=True, load_default=OnOversize.FAIL)
    webhook = fields.Nested(JobWebhookSchema, allow_none=True, load_default=None)


class JobRequestSchema(SteeringSchema):
    """A job to run: exactly one of ``input``, ``inputs`` and ``input_file_id``."""

    input = Input(metadata={"description": "One item: a string, or a request body"})
    inputs = Inputs(
        metadata={
            "description": "Strings, or objects with `custom_id` and `body`",
            "type": "array",
            "items": {"oneOf": [{"type": "string"}, {"type": "object"}]},
            "example": ["first text", {"custom_id": "second", "body": {"input": "second text"}}],
        }
    )
    input_file_id = Text(metadata={"description": "A JSONL file uploaded with the purpose `batch`"})
    endpoint = Text(required=True, metadata={"example": "/v1/embeddings"})
    completion_window = Text(load_default="24h", metadata={"description": WINDOW_DOC})
    output_expires_after = StrictInteger(
        allow_none=True, load_default=None, validate=validate.Range(min=SHORTEST_LIFE_S, max=LONGEST_LIFE_S)
    )
    metadata = Metadata(load_default=dict, allow_none=True)

    @post_load
    def make(self, data: dict[str, Any], **_kwargs: Any) -> JobRequest:
        """Make the request of what was loaded.

        Raises:
            InvalidRequest: none, or more than one, of the three inputs.
        """
        given = [name for name in _INPUTS if name in data]
        if not given:
            raise MissingParameter("one of 'input', 'inputs' and 'input_file_id' is required", param="inputs")
        if len(given) > 1:
            raise InvalidRequest(f"only one of {', '.join(given)} may be given", param=given[1])
        inputs = data.pop("input", None) or data.pop("inputs", None)
        return JobRequest(
            dialect=Dialect.NATIVE,
            inputs=inputs,
            output_expires_after_s=data.pop("output_expires_after"),
            metadata=data.pop("metadata") or {},
            **data,
        )


class JobPatchSchema(RequestSchema):
    """What may be changed of a live job, at least one; fields that are absent stay."""

    priority = fields.Enum(Priority, by_value=True)
    completion_window = Text(metadata={"description": WINDOW_DOC + "; counts from `created_at`"})
    metadata = Metadata(metadata={"description": "Takes the place of all pairs the job has"})

    @post_load
    def check(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Refuse a change of nothing.

        Raises:
            MissingParameter: no field is given.
        """
        if not data:
            names = ", ".join(f"'{name}'" for name in self.fields)
            raise MissingParameter(f"at least one of {names} is required", param="priority")
        return data


class CountsSchema(Schema):
    """Items by outcome; ``total`` is the sum of the other six."""

    total = fields.Integer(required=True)
    pending = fields.Integer(required=True)
    running = fields.Integer(required=True)
    succeeded = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)
    expired = fields.Integer(required=True)


class WaitingSchema(Schema):
    """Why a live job does not run."""

    reason = fields.String(required=True)
    detail = fields.String(required=True)
    position = fields.Integer(required=True, allow_none=True)


class EtaSchema(Schema):
    """When a live job is expected to end, in seconds from now."""

    seconds = fields.Float(required=True)
    low = fields.Float(required=True)
    high = fields.Float(required=True)


class UsageSchema(Schema):
    """What a job consumed so far."""

    input_tokens = fields.Integer(required=True)
    output_tokens = fields.Integer(required=True)
    total_tokens = fields.Function(lambda usage: usage.input_tokens + usage.output_tokens, metadata={"type": "integer"})
    device_seconds = fields.Function(lambda usage: round(usage.device_s, 6), metadata={"type": "number"})


class CostSchema(Schema):
    """What a job costs: ``charged`` is ``list`` less ``discount``."""

    currency = fields.String(required=True)
    list = fields.Float(required=True)
    discount = fields.Float(required=True)
    charged = fields.Float(required=True)


class LineProblemSchema(Schema):
    """A line that refused the whole input."""

    line = fields.Integer(required=True, allow_none=True, metadata={"description": "Counts from 1"})
    code = fields.String(required=True)
    message = fields.String(required=True)
    param = fields.String(required=True, allow_none=True)


class JobErrorsSchema(Schema):
    """What went wrong in a job."""

    by_code = fields.Dict(keys=fields.String(), values=fields.Integer(), attribute="errors_by_code", required=True)
    validation = fields.List(
        fields.Nested(LineProblemSchema), required=True, metadata={"description": "The first 100 refused lines"}
    )

    refusal = fields.String(
        allow_none=True,
        attribute="job.refusal",
        metadata={
            "description": "Why items were failed without being run, such as an upstream server that refuses our key"
        },
    )

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Find what is not an attribute of ``JobDetails``."""
        return validation_problems(obj) if attr == "validation" else super().get_attribute(obj, attr, default)


def validation_problems(details: JobDetails) -> list[dict[str, Any]]:
    """The refused lines of a job; a refusal of the input as a whole is a problem without a line."""
    problems = details.job.validation_errors
    if problems or details.job.failure is None:
        return problems
    return [{"line": None, "param": None, **details.job.failure}]


_PHASES = {
    JobState.VALIDATING: "reading the input",
    JobState.QUEUED: "waiting for a worker",
    JobState.RUNNING: "running",
    JobState.FINALIZING: "closing the results",
    JobState.CANCELLING: "stopping",
    JobState.HELD: "held for review",
    JobState.PAUSED: "paused",
}


def phase_of(details: JobDetails) -> str:
    """What is being done about a job, for people."""
    return _PHASES.get(details.job.state, "finished")


def progress_of(counts: Counts) -> float:
    """Share of the items that have their outcome, 0 to 1."""
    return round(counts.finished / counts.total, 6) if counts.total else 0.0


def links_of(job: Job) -> dict[str, str]:
    """Where everything about a job is found, as paths on this server; in other dialects where its items fit them."""
    own = f"/v1/jobs/{job.id}"
    messages = {"anthropic_batch": f"/v1/messages/batches/{message_batch_id(job.id)}"}
    return {
        "self": own,
        "results": f"{own}/results",
        "manifest": f"{own}/manifest",
        "events": f"{own}/events",
        "cancel": f"{own}/cancel",
        "pause": f"{own}/pause",
        "resume": f"{own}/resume",
        "retry": f"{own}/retry",
        "openai_batch": f"/v1/batches/{batch_id(job.id)}",
        **(messages if job.endpoint == CHAT_ENDPOINT else {}),
    }


def shown_webhook(webhook: JobWebhook | None, secret: str | None) -> dict[str, Any] | None:
    """A job's own webhook; with its secret in the answer to the request that submits the job."""
    if webhook is None:
        return None
    shown = {"url": webhook.url, "events": list(webhook.events)}
    return shown if secret is None else {**shown, "signing_secret": secret}


WEBHOOK_DOC: dict[str, Any] = {
    "type": "object",
    "nullable": True,
    "properties": {
        "url": {"type": "string"},
        "events": {"type": "array", "items": {"type": "string"}},
        "signing_secret": {
            "type": "string",
            "description": "Only in the answer to the submit; the same for every job of the tenant with this `url`. "
            "Where a webhook endpoint with this `url` is registered, its secret signs instead",
        },
    },
}


class JobSchema(Schema):
    """A job."""

    id = fields.String(attribute="job.id", required=True, metadata={"example": _EXAMPLE_ID})
    object = fields.Constant("job", metadata={"enum": ["job"]})
    state = fields.String(attribute="job.state", required=True, metadata={"enum": [state.value for state in JobState]})
    phase = fields.Function(phase_of, metadata={"type": "string"})
    endpoint = fields.String(attribute="job.endpoint", required=True)
    model = fields.String(attribute="job.model", required=True, allow_none=True)
    model_version = fields.String(attribute="job.model_version", required=True, allow_none=True)
    priority = fields.String(attribute="job.priority", required=True)
    completion_window = fields.String(attribute="job.completion_window", required=True)
    metadata = fields.Dict(attribute="job.metadata", keys=fields.String(), values=fields.String(), required=True)
    counts = fields.Nested(CountsSchema, required=True)
    progress = fields.Function(lambda details: progress_of(details.counts), metadata={"type": "number"})
    waiting = fields.Nested(WaitingSchema, required=True, allow_none=True)
    eta = fields.Nested(EtaSchema, required=True, allow_none=True)
    usage = fields.Nested(UsageSchema, required=True)
    cost = fields.Nested(CostSchema, required=True)
    errors = fields.Nested(JobErrorsSchema, required=True)
    attempt_runs = fields.Integer(attribute="job.attempt_runs", required=True)
    group_id = fields.String(attribute="job.group_id", required=True, allow_none=True)
    schedule_id = fields.String(attribute="job.schedule_id", required=True, allow_none=True)
    webhook = fields.Function(
        lambda details: shown_webhook(details.job.webhook, details.webhook_secret), metadata=WEBHOOK_DOC
    )
    created_at = Timestamp(attribute="job.created_at", required=True)
    started_at = Timestamp(attribute="job.started_at", required=True, allow_none=True)
    finished_at = Timestamp(attribute="job.finished_at", required=True, allow_none=True)
    deadline_at = Timestamp(attribute="job.deadline_at", required=True)
    results_expire_at = Timestamp(attribute="job.results_expire_at", required=True, allow_none=True)
    links = fields.Function(
        lambda details: links_of(details.job),
        metadata={"type": "object", "additionalProperties": {"type": "string"}},
    )

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Find what is not an attribute of ``JobDetails``: ``errors`` are a view of the whole."""
        return obj if attr == "errors" else super().get_attribute(obj, attr, default)


class JobListSchema(Schema):
    """A page of jobs, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(JobSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: page.items[0].job.id if page.items else None, metadata={"type": "string", "nullable": True}
    )
    last_id = fields.Function(
        lambda page: page.items[-1].job.id if page.items else None, metadata={"type": "string", "nullable": True}
    )


class JobListQuerySchema(RequestSchema):
    """How to walk and narrow the list of jobs."""

    after = Text(load_default=None, metadata={"description": "Id of the last job of the page before"})
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_JOBS_PAGE))
    state = fields.Enum(JobState, by_value=True, load_default=None)
    group_id = Text(load_default=None, metadata={"description": "Jobs of this group; without it, jobs of no group"})
    endpoint = Text(load_default=None)
    model = Text(load_default=None)
    created_after = Moment(format="iso", load_default=None)
    created_before = Moment(format="iso", load_default=None)
    metadata = Metadata(load_default=dict, metadata={"description": "`metadata[key]=value`"})
