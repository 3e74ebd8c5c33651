"""The one table from a class of error to what HTTP says about it.

The stable ``code`` lives on the error itself. A test checks that every class of ``app/errors.py`` is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from app import errors


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How a class of error is reported."""

    status: HTTPStatus
    type: str
    """The ``type`` of the error body, in the words of the OpenAI API."""

    @property
    def anthropic_type(self) -> str:
        """The ``type`` in the words of the Anthropic API."""
        return _ANTHROPIC_TYPES.get(self.status, _ANTHROPIC_REQUEST if self.status < _SERVERS else "api_error")

    @property
    def anthropic_status(self) -> int:
        """The status there: what is out of order on our side has a number of its own, and a class in its SDK."""
        return _OVERLOADED if self.status is HTTPStatus.SERVICE_UNAVAILABLE else self.status


_SERVERS = HTTPStatus.INTERNAL_SERVER_ERROR
_ANTHROPIC_REQUEST = "invalid_request_error"
_OVERLOADED = 529
_ANTHROPIC_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}


_REQUEST = "invalid_request_error"
_SERVER = "server_error"

INTERNAL = ErrorKind(HTTPStatus.INTERNAL_SERVER_ERROR, _SERVER)

KINDS: dict[type[errors.NightshiftError], ErrorKind] = {
    errors.RequestRefused: ErrorKind(HTTPStatus.BAD_REQUEST, _REQUEST),
    errors.InvalidRequest: ErrorKind(HTTPStatus.BAD_REQUEST, _REQUEST),
    errors.InvalidJson: ErrorKind(HTTPStatus.BAD_REQUEST, _REQUEST),
    errors.MissingParameter: ErrorKind(HTTPStatus.BAD_REQUEST, _REQUEST),
    errors.UnknownParameter: ErrorKind(HTTPStatus.BAD_REQUEST, _REQUEST),
    errors.ReceiverRefused: ErrorKind(HTTPStatus.BAD_REQUEST, _REQUEST),
    errors.ContextLengthExceeded: ErrorKind(HTTPStatus.BAD_REQUEST, _REQUEST),
    errors.NotAuthenticated: ErrorKind(HTTPStatus.UNAUTHORIZED, "authentication_error"),
    errors.NotPermitted: ErrorKind(HTTPStatus.FORBIDDEN, "permission_error"),
    errors.NotFound: ErrorKind(HTTPStatus.NOT_FOUND, _REQUEST),
    errors.ModelNotFound: ErrorKind(HTTPStatus.NOT_FOUND, _REQUEST),
    errors.MethodNotAllowed: ErrorKind(HTTPStatus.METHOD_NOT_ALLOWED, _REQUEST),
    errors.RequestTooLarge: ErrorKind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _REQUEST),
    errors.RangeNotSatisfiable: ErrorKind(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, _REQUEST),
    errors.StateConflict: ErrorKind(HTTPStatus.CONFLICT, _REQUEST),
    errors.NothingToRetry: ErrorKind(HTTPStatus.CONFLICT, _REQUEST),
    errors.ReceiverUnreachable: ErrorKind(HTTPStatus.FAILED_DEPENDENCY, _REQUEST),
    errors.Gone: ErrorKind(HTTPStatus.GONE, _REQUEST),
    errors.QueueFull: ErrorKind(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.StorageQuotaExceeded: ErrorKind(HTTPStatus.FORBIDDEN, "insufficient_quota"),
    errors.TooManyListeners: ErrorKind(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER),
    errors.TooManyAtOnce: ErrorKind(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.RateLimited: ErrorKind(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.IdempotencyKeyReused: ErrorKind(HTTPStatus.UNPROCESSABLE_ENTITY, _REQUEST),
    errors.IdempotencyKeyInUse: ErrorKind(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER),
    errors.DependencyFailed: ErrorKind(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER),
    errors.StorageUnavailable: ErrorKind(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER),
    errors.ObjectMissing: INTERNAL,
    errors.DatabaseUnavailable: ErrorKind(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER),
    errors.BrokerUnavailable: ErrorKind(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER),
    errors.NoWorkerForModel: ErrorKind(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER),
    errors.EngineFailed: INTERNAL,
    errors.SyncTimedOut: ErrorKind(HTTPStatus.GATEWAY_TIMEOUT, "timeout_error"),
    errors.OutOfDeviceMemory: INTERNAL,
    errors.ResultsIncomplete: INTERNAL,
    errors.LeaseLost: INTERNAL,
    errors.QueueTaken: INTERNAL,
}


def kind_of(error: type[errors.NightshiftError]) -> ErrorKind:
    """How a class is reported: by its own line, else by that of its nearest ancestor."""
    return next((KINDS[ancestor] for ancestor in error.__mro__ if ancestor in KINDS), INTERNAL)
