"""Workers as the administrator sees them."""

from __future__ import annotations

from marshmallow import Schema, fields

from app.domain.workers import WorkerState
from app.schemas.fields import Timestamp


class RunningChunkSchema(Schema):
    """The chunk that a worker holds."""

    chunk_id = fields.Integer(required=True)
    job_id = fields.String(required=True)
    running_s = fields.Float(required=True, metadata={"description": "Since it was claimed"})


class WorkerSchema(Schema):
    """A device queue and the process that serves it."""

    queue = fields.String(required=True, metadata={"example": "gpu.0"})
    pool = fields.String(required=True, metadata={"example": "gpu"})
    state = fields.Enum(WorkerState, by_value=True, required=True)
    host = fields.String(required=True, allow_none=True)
    incarnation = fields.String(
        required=True, allow_none=True, metadata={"description": "Names the very process; a restart gets another"}
    )
    started_at = Timestamp(required=True, allow_none=True)
    age_s = fields.Float(required=True, allow_none=True, metadata={"description": "Since this incarnation began"})
    seen_at = Timestamp(required=True, allow_none=True)
    warm_models = fields.List(fields.String(), required=True)
    unloadable_models = fields.List(
        fields.String(), required=True, metadata={"description": "It tried to load them lately and could not"}
    )
    running = fields.Nested(RunningChunkSchema, required=True, allow_none=True)
    n_waiting = fields.Integer(required=True, metadata={"description": "Chunks published to it and not yet taken"})
    drained_at = Timestamp(required=True, allow_none=True)


class WorkerListSchema(Schema):
    """Workers, by queue."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(WorkerSchema), required=True)
