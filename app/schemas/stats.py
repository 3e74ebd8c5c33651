"""How the service does, as every tenant may see it: sums over all tenants, and none of them named."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

from app.domain.stats import AlertCode

_POOL = {"description": "Null: jobs whose input is not yet checked"}
_ALL = {"description": "Null: all classes together"}


class Seconds(fields.Float):
    """Seconds, to the millisecond."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else round(float(value), 3)


class PercentilesSchema(Schema):
    """A distribution in seconds; null where there is nothing."""

    p50 = Seconds(required=True, allow_none=True)
    p95 = Seconds(required=True, allow_none=True)
    p99 = Seconds(required=True, allow_none=True)


class QueueStatsSchema(Schema):
    """What waits in one pool in one class."""

    pool = fields.String(required=True, allow_none=True, metadata=_POOL)
    priority = fields.String(required=True)
    jobs = fields.Integer(attribute="n_jobs", required=True)
    chunks = fields.Integer(attribute="n_chunks", required=True)
    items = fields.Integer(attribute="n_items", required=True)
    oldest_age_s = Seconds(required=True, metadata={"description": "Age of the oldest of these jobs"})


class PoolStatsSchema(Schema):
    """One pool as a whole."""

    pool = fields.String(required=True)
    queued_jobs = fields.Integer(attribute="n_jobs", required=True)
    workers = fields.Integer(
        attribute="n_workers",
        required=True,
        allow_none=True,
        metadata={"description": "That take work; null where the dispatcher has not reported lately"},
    )
    wanted_workers = fields.Integer(
        attribute="n_wanted",
        required=True,
        metadata={"description": "That there should be, within the bounds of the installation: what autoscalers read"},
    )
    backlog_s = Seconds(
        required=True,
        allow_none=True,
        metadata={"description": "What one worker would need for all that is left, at the measured rates"},
    )
    drained_in_s = Seconds(
        required=True, allow_none=True, metadata={"description": "What the live workers need; null without any"}
    )


class ServedStatsSchema(Schema):
    """Jobs that ended within the window, of one class or of all."""

    priority = fields.String(required=True, allow_none=True, metadata=_ALL)
    jobs_ended = fields.Integer(
        attribute="n_ended",
        required=True,
        metadata={"description": "Without those that were cancelled or whose input was refused"},
    )
    in_window_rate = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "Share that ended before the deadline with every item run, 0 to 1"},
    )
    wait_s = fields.Nested(
        PercentilesSchema, attribute="wait", required=True, metadata={"description": "Accepted to first chunk claimed"}
    )
    time_to_complete_s = fields.Nested(
        PercentilesSchema, attribute="time_to_complete", required=True, metadata={"description": "Accepted to ended"}
    )


class AlertSchema(Schema):
    """Something is above its threshold."""

    code = fields.String(required=True, metadata={"enum": [code.value for code in AlertCode]})
    pool = fields.String(required=True, allow_none=True, metadata=_POOL)
    value = fields.Float(required=True)
    threshold = fields.Float(required=True)
    message = fields.String(required=True)


class StatsSchema(Schema):
    """How the service does."""

    object = fields.Constant("stats", metadata={"enum": ["stats"]})
    window_s = fields.Integer(required=True, metadata={"description": "How far back `served` looks"})
    queues = fields.List(fields.Nested(QueueStatsSchema), required=True)
    pools = fields.List(fields.Nested(PoolStatsSchema), required=True)
    served = fields.List(fields.Nested(ServedStatsSchema), required=True)
    alerts = fields.List(fields.Nested(AlertSchema), required=True)
