"""Tenants and their quotas as the administrator sees and sets them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from marshmallow import Schema, fields, validate

from app.domain.tenants import MAX_NAME_CHARS
from app.schemas.fields import Number, RequestSchema, Text, Timestamp
from app.schemas.jobs import StrictInteger

MAX_PAGE = 100
DEFAULT_PAGE = 20
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 10_000
MOST_JOBS = MOST_CHUNKS = MOST_REQUESTS = 1_000_000
MOST_TOKENS = 10**15
MOST_BYTES = 2**60
LEAST_RETENTION_S, MOST_RETENTION_S = 60, 10 * 366 * 86_400
LEAST_BUDGET, MOST_BUDGET = 0.01, 10**11


class Money(Number):
    """An amount as a JSON number, to the millionth."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        amount = super()._deserialize(value, attr, data, **kwargs)
        return Decimal(str(round(amount, 6)))


def _count(most: int, description: str) -> StrictInteger:
    return StrictInteger(
        allow_none=True, validate=validate.Range(min=1, max=most), metadata={"description": description}
    )


class TenantPatchSchema(RequestSchema):
    """Limits to set; those that are absent stay, null takes one back to the installation's default."""

    weight = Number(
        allow_none=True,
        validate=validate.Range(min=LEAST_WEIGHT, max=MOST_WEIGHT),
        metadata={"description": "Share among the tenants who have work, relative to the others"},
    )
    max_running_jobs = _count(MOST_JOBS, "Jobs that may run at once; the others wait")
    max_chunks = _count(MOST_CHUNKS, "Chunks that may be with workers at once; the others wait")
    max_enqueued_tokens = _count(MOST_TOKENS, "Estimated tokens admitted and unfinished; jobs beyond them wait")
    requests_per_minute = _count(MOST_REQUESTS, "Submits and synchronous requests in a minute")
    max_storage_bytes = _count(MOST_BYTES, "Bytes of files, inline inputs and results that may be kept")
    retention_s = StrictInteger(
        allow_none=True,
        validate=validate.Range(min=LEAST_RETENTION_S, max=MOST_RETENTION_S),
        metadata={"description": "Longest life of files and results, whatever is asked for"},
    )
    budget = Money(
        allow_none=True,
        validate=validate.Range(min=LEAST_BUDGET, max=MOST_BUDGET),
        metadata={"description": "Money that may be spent"},
    )


class TenantQuotaSchema(Schema):
    """What holds for a tenant."""

    weight = fields.Float(required=True)
    max_running_jobs = fields.Integer(required=True)
    max_chunks = fields.Integer(required=True)
    max_enqueued_tokens = fields.Integer(required=True)
    requests_per_minute = fields.Integer(required=True)
    max_storage_bytes = fields.Integer(required=True)
    retention_s = fields.Integer(required=True)
    budget = fields.Float(required=True, allow_none=True, metadata={"description": "Null: no limit"})


class TenantLimitsSchema(Schema):
    """What was set for a tenant; null where the installation's default holds."""

    weight = fields.Float(required=True, allow_none=True)
    max_running_jobs = fields.Integer(required=True, allow_none=True)
    max_chunks = fields.Integer(required=True, allow_none=True)
    max_enqueued_tokens = fields.Integer(required=True, allow_none=True)
    requests_per_minute = fields.Integer(required=True, allow_none=True)
    max_storage_bytes = fields.Integer(required=True, allow_none=True)
    retention_s = fields.Integer(required=True, allow_none=True)
    budget = fields.Float(required=True, allow_none=True)


class TenantUseSchema(Schema):
    """What a tenant uses now."""

    running_jobs = fields.Integer(required=True)
    live_chunks = fields.Integer(required=True, metadata={"description": "Chunks with workers"})
    enqueued_tokens = fields.Integer(required=True, metadata={"description": "Estimated tokens that have not run yet"})
    stored_bytes = fields.Integer(required=True)


class TenantSchema(Schema):
    """A tenant."""

    id = fields.String(attribute="tenant.id", required=True)
    object = fields.Constant("tenant", metadata={"enum": ["tenant"]})
    name = fields.String(attribute="tenant.name", required=True, metadata={"example": "demo"})
    created_at = Timestamp(attribute="tenant.created_at", required=True)
    quota = fields.Nested(TenantQuotaSchema, required=True)
    limits = fields.Nested(TenantLimitsSchema, attribute="tenant.limits", required=True)
    use = fields.Nested(TenantUseSchema, required=True)


class TenantListSchema(Schema):
    """A page of tenants, by name."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(TenantSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)


class TenantListQuerySchema(RequestSchema):
    """How to walk the list."""

    after = Text(
        load_default=None,
        validate=validate.Length(max=MAX_NAME_CHARS),
        metadata={"description": "Name of the last tenant of the page before"},
    )
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_PAGE))
