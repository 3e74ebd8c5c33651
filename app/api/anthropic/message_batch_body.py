"""The body of ``POST /v1/messages/batches``, read as it arrives."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

from flask import Request
from marshmallow import ValidationError

from app.api.request_parser import check_is_json, parse_json
from app.domain.jobs import Dialect, JobRequest
from app.domain.message_batches import CHAT_ENDPOINT
from app.domain.message_params import ApiVersion
from app.schemas.message_batches import MessageBatchOptionsSchema
from app.schemas.problems import refusal_of


class ArrivingBatch:
    """A ``MessageBatchBody`` out of a request."""

    def __init__(self, request: Request, version: ApiVersion) -> None:
        """Begin to read.

        Raises:
            InvalidRequest: the body says that it is something else than JSON.
            RequestEntityTooLarge: it announces more bytes than the limit; it was not read.
        """
        check_is_json(request)
        self.content = cast("BinaryIO", request.stream)
        self.api_version: str = version

    def finish(self, others: dict[str, bytes]) -> JobRequest:
        """See ``MessageBatchBody.finish``."""
        given: dict[str, Any] = {name: parse_json(text) for name, text in others.items()}
        try:
            steering = MessageBatchOptionsSchema().load(given)["nightshift"]
        except ValidationError as error:
            raise refusal_of(error) from error
        return JobRequest(dialect=Dialect.ANTHROPIC, endpoint=CHAT_ENDPOINT, api_version=self.api_version, **steering)
