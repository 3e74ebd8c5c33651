"""Answer one request while the client waits."""

from __future__ import annotations

import re
from typing import Any

from app.db.repositories.workers import Workers
from app.domain.items import ItemErrorCode
from app.errors import (
    ContextLengthExceeded,
    DependencyFailed,
    EngineFailed,
    InvalidRequest,
    MissingParameter,
    ModelNotFound,
    NightshiftError,
    NoWorkerForModel,
    OutOfDeviceMemory,
    SyncTimedOut,
)
from app.ports import SyncLane
from app.wiring import Wiring
from config.models import ModelSpec

NO_WORKER_RETRY_AFTER_S = 5.0

# Engines name the parameter at fault in quotes at the start of their message.
_PARAM = re.compile(r"^'([\w.]+)'")

_ERRORS: dict[str, type[NightshiftError]] = {
    ItemErrorCode.INVALID_REQUEST: InvalidRequest,
    ItemErrorCode.MISSING_REQUIRED_PARAMETER: MissingParameter,
    ItemErrorCode.CONTEXT_LENGTH_EXCEEDED: ContextLengthExceeded,
    ItemErrorCode.MODEL_NOT_FOUND: ModelNotFound,
    ItemErrorCode.OUT_OF_MEMORY: OutOfDeviceMemory,
    ItemErrorCode.ITEM_TIMEOUT: SyncTimedOut,
    ItemErrorCode.DEADLINE_EXCEEDED: SyncTimedOut,
    ItemErrorCode.RATE_LIMITED: DependencyFailed,
    ItemErrorCode.UPSTREAM_UNAVAILABLE: DependencyFailed,
}


def answer_sync(
    *, wiring: Wiring, lane: SyncLane, endpoint: str, body: dict[str, Any], timeout_s: float | None = None
) -> bytes:
    """Have a live worker answer ``body`` now; return the response body as serialised JSON.

    Args:
        timeout_s: None: the configured deadline.
    Raises:
        MissingParameter, InvalidRequest, ModelNotFound, ContextLengthExceeded: the request is wrong.
        NoWorkerForModel: no worker of the model's pools is alive.
        DependencyFailed: the server behind the model is busy or away, or the worker cannot load the model.
        SyncTimedOut: the deadline passed.
        BrokerUnavailable: the broker did not take the request.
        EngineFailed: the model failed on it.
    """
    model = _model(wiring, body, endpoint)
    if body.get("stream"):
        message = "'stream' is not possible: answers come whole; leave it out"
        raise InvalidRequest(message, param="stream", code="streaming_unsupported")
    reply = lane.call(
        pool=_live_pool(wiring, model),
        request={"endpoint": endpoint, "model": model.alias, "version": model.stable_version, "body": body},
        timeout_s=timeout_s or wiring.settings.sync_timeout_s,
    )
    if "error" in reply:
        raise _as_error(reply["error"])
    answer: str = reply["body"]
    return answer.encode()


def _model(wiring: Wiring, body: dict[str, Any], endpoint: str) -> ModelSpec:
    alias = body.get("model")
    if alias is None:
        raise MissingParameter("'model' is missing: name one of GET /v1/models", param="model")
    if not isinstance(alias, str):
        raise InvalidRequest("'model' must be a string", param="model")
    model = wiring.models.get(alias)
    if model is None:
        raise ModelNotFound(f"there is no model {alias!r}; GET /v1/models lists them", param="model")
    if not model.serves(endpoint):
        raise InvalidRequest(f"{alias} answers {', '.join(model.endpoints)}, not {endpoint}", param="model")
    return model


def _live_pool(wiring: Wiring, model: ModelSpec) -> str:
    with wiring.database.begin() as connection:
        workers = Workers(connection).live(silence_s=wiring.settings.worker_silence_s)
    alive = {worker.pool for worker in workers}
    pool = next((pool for pool in model.pools if pool in alive), None)
    if pool is None:
        raise NoWorkerForModel(
            f"no worker that serves {model.alias} takes work now; try again, or send a job, which waits for one",
            retry_after_s=NO_WORKER_RETRY_AFTER_S,
        )
    return pool


def _as_error(error: dict[str, Any]) -> NightshiftError:
    message = error["message"]
    named = _PARAM.match(message)
    kind = _ERRORS.get(error["code"], EngineFailed)
    return kind(message, param=named.group(1) if named else None, retry_after_s=error.get("retry_after_s"))
