"""Everything that can go wrong, by name.

NightshiftError
├── RequestRefused                 the caller can mend it
│   ├── InvalidRequest             a value is wrong; ``param`` names it
│   │   ├── InvalidJson            the body is not JSON
│   │   ├── MissingParameter       a required value is absent
│   │   ├── UnknownParameter       a field nobody knows
│   │   ├── ReceiverRefused        an address to which no webhook may be sent
│   │   └── ContextLengthExceeded  the input has more tokens than the model takes
│   ├── NotAuthenticated           no key, an unknown key, a revoked key
│   ├── NotPermitted               the key may not do this
│   ├── NotFound                   no such object for this tenant
│   ├── ModelNotFound              no such model
│   ├── MethodNotAllowed           the route exists, the method does not
│   ├── RequestTooLarge            above a documented size
│   ├── StateConflict              the object is in a state that forbids it; asking again will not help
│   │   └── NothingToRetry         the job has no item of the outcomes that are to run again
│   ├── ReceiverUnreachable        the receiver of a test webhook gave no answer
│   ├── Gone                       what this would work on was deleted or is past its life
│   ├── QueueFull                  past the hard cap on unfinished jobs
│   ├── StorageQuotaExceeded       the tenant stores as much as it may
│   ├── TooManyListeners           as many listen to events as this process serves
│   ├── TooManyAtOnce              the tenant has as many slow requests under way as it may
│   ├── RateLimited                more requests in a minute than the tenant may send
│   ├── IdempotencyKeyReused       the key was sent before with another body
│   ├── IdempotencyKeyInUse        a request with the same key is being answered
│   └── RangeNotSatisfiable        a Range outside the content
├── DependencyFailed               a backing service failed; asking again may help
│   ├── StorageUnavailable
│   │   └── ObjectMissing          a key that should exist does not
│   ├── DatabaseUnavailable
│   ├── BrokerUnavailable
│   └── NoWorkerForModel           no live worker serves this model
└── EngineFailed                   the model side failed
    ├── SyncTimedOut               no answer within the deadline
    ├── OutOfDeviceMemory          the micro-batch did not fit
    ├── ResultsIncomplete          a job's parts hold something else than its chunks counted
    ├── LeaseLost                  another worker took the chunk over; what this one did has no effect
    └── QueueTaken                 another live worker serves the queue

None of them knows an HTTP status: ``app/api/error_tables.py`` maps classes to statuses, one table for all dialects.
Whatever is outside this tree is a bug: it goes to Sentry and becomes a 500 without details.
"""

from __future__ import annotations

from typing import ClassVar


class NightshiftError(Exception):
    """Base of every error that has a name here.

    Attributes:
        code: stable, machine-readable; clients match on it.
        retryable: whether the same request may succeed later, unchanged.
        param: the field at fault, where there is one.
        retry_after_s: how long to wait, where that is known.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self._code = code

    @property
    def reported_code(self) -> str:
        """The code shown to the client: the instance's own, else its class's."""
        return self._code or self.code


class RequestRefused(NightshiftError):
    """The request cannot be accepted as it is; mend it and send it again."""

    code = "invalid_request"


class InvalidRequest(RequestRefused):
    """A value is wrong. ``param`` names it, the message says what would be right."""

    code = "invalid_value"


class InvalidJson(InvalidRequest):
    """The body is not JSON."""

    code = "invalid_json"


class MissingParameter(InvalidRequest):
    """A required value is absent."""

    code = "missing_required_parameter"


class UnknownParameter(InvalidRequest):
    """A field that this route does not have."""

    code = "unknown_parameter"


class ReceiverRefused(InvalidRequest):
    """No webhook may be sent to this address: it is not public, not `https`, or on a port that is not allowed."""

    code = "webhook_receiver_refused"


class ContextLengthExceeded(InvalidRequest):
    """The input has more tokens than the model takes; shorten it."""

    code = "context_length_exceeded"


class NotAuthenticated(RequestRefused):
    """No key, an unknown key or a revoked key; send a valid one."""

    code = "invalid_api_key"


class NotPermitted(RequestRefused):
    """The key is valid but may not do this."""

    code = "permission_denied"


class NotFound(RequestRefused):
    """No such object, or not this tenant's."""

    code = "not_found"


class ModelNotFound(RequestRefused):
    """No such model; ``GET /v1/models`` lists them."""

    code = "model_not_found"


class MethodNotAllowed(RequestRefused):
    """The route exists but not for this method."""

    code = "method_not_allowed"


class RequestTooLarge(RequestRefused):
    """Above a documented size; split the request."""

    code = "request_too_large"


class RangeNotSatisfiable(RequestRefused):
    """The Range header asks for bytes outside the content.

    Attributes:
        size_bytes: how long the content is.
    """

    code = "range_not_satisfiable"

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class StateConflict(RequestRefused):
    """The object's state forbids this, and asking again will not help.

    Attributes:
        current: the state it is in.
        wanted: what was asked for.
    """

    code = "state_conflict"

    def __init__(self, message: str, *, current: str, wanted: str) -> None:
        super().__init__(message)
        self.current = current
        self.wanted = wanted


class NothingToRetry(StateConflict):
    """The job has no item of the outcomes that are to run again."""

    code = "nothing_to_retry"


class ReceiverUnreachable(RequestRefused):
    """The receiver of a test webhook gave no answer; the message says how it failed."""

    code = "webhook_receiver_unreachable"


class Gone(RequestRefused):
    """What this would work on was deleted or is past its life; submit it as a new job."""

    code = "gone"


class QueueFull(RequestRefused):
    """Too many unfinished jobs; come back after ``retry_after_s``."""

    code = "queue_full"
    retryable = True


class RateLimited(RequestRefused):
    """More requests in a minute than the tenant may send; come back after ``retry_after_s``."""

    code = "rate_limit_exceeded"
    retryable = True


class TooManyListeners(RequestRefused):
    """As many listen to events as this process serves; come back after ``retry_after_s``, or poll."""

    code = "too_many_listeners"
    retryable = True


class TooManyAtOnce(RequestRefused):
    """As many requests of this kind are under way as the tenant may have at once; come back after ``retry_after_s``."""

    code = "too_many_at_once"
    retryable = True


class StorageQuotaExceeded(RequestRefused):
    """The tenant stores as much as it may; delete files, let results expire sooner, or ask for a larger quota."""

    code = "storage_quota_exceeded"


class IdempotencyKeyReused(RequestRefused):
    """The ``Idempotency-Key`` was sent before with another request; use a new one for a new request."""

    code = "idempotency_key_reused"


class IdempotencyKeyInUse(RequestRefused):
    """A request with the same ``Idempotency-Key`` is still being answered; send it again after ``retry_after_s``."""

    code = "idempotency_key_in_use"
    retryable = True


class DependencyFailed(NightshiftError):
    """A backing service failed; the same request may succeed later."""

    code = "service_unavailable"
    retryable = True


class StorageUnavailable(DependencyFailed):
    """The object store did not answer, or answered with an error."""

    code = "storage_unavailable"


class ObjectMissing(StorageUnavailable):
    """A key that a row names is not in the bucket."""

    code = "object_missing"
    retryable = False


class DatabaseUnavailable(DependencyFailed):
    """Postgres did not answer."""

    code = "database_unavailable"


class BrokerUnavailable(DependencyFailed):
    """The broker did not take a message."""

    code = "broker_unavailable"


class NoWorkerForModel(DependencyFailed):
    """No live worker serves the model now."""

    code = "no_worker_for_model"


class EngineFailed(NightshiftError):
    """The model side failed."""

    code = "internal"


class SyncTimedOut(EngineFailed):
    """No answer within the deadline; the request may be sent again, or as a job."""

    code = "timeout"
    retryable = True


class OutOfDeviceMemory(EngineFailed):
    """The micro-batch did not fit on the device; retry with half the rows."""

    code = "out_of_memory"
    retryable = True


class ResultsIncomplete(EngineFailed):
    """A job's parts hold something else than its chunks counted; a bug, never finalised over."""

    code = "results_incomplete"


class LeaseLost(EngineFailed):
    """Another worker took the chunk over; nothing this one still does has an effect."""

    code = "lease_lost"


class QueueTaken(EngineFailed):
    """Another live worker serves the queue; a queue has one worker, whichever host it is on."""

    code = "queue_taken"
