"""Load a request's JSON body or query through a schema, and say exactly what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson
from flask import Request
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser

from app.api.idempotency import remember_body
from app.errors import InvalidJson, InvalidRequest
from app.schemas.fields import OptionalBodySchema
from app.schemas.problems import refusal_of

MAX_DEPTH_PROBE = 200
"""Below so many brackets a document cannot be nested too deeply for orjson to write it again (254 levels)."""
# The schema decides what to do about fields it does not know, and ours refuse them.
_UNKNOWN: dict[str, str | None] = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": None}
_BRACKETED = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")


class RequestParser(FlaskParser):
    """webargs, with our JSON rules and our errors."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = _UNKNOWN

    def load_json(self, req: Request, schema: Schema) -> Any:
        """The parsed body; an empty object where there is none and none is needed."""
        if isinstance(schema, OptionalBodySchema) and _has_no_body(req):
            remember_body(b"")
            return {}
        return read_json(req)

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        """The query as a dict; ``metadata[team]=a`` becomes ``{"metadata": {"team": "a"}}``."""
        return _nested(req.args.to_dict())

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        """Raise ours; webargs has put the location around the messages."""
        (messages,) = error.messages_dict.values()
        raise refusal_of(ValidationError(messages)) from error


def _has_no_body(req: Request) -> bool:
    return not req.content_length and "Transfer-Encoding" not in req.headers


def read_json(req: Request) -> Any:
    """The JSON document in a request's body.

    Raises:
        InvalidRequest: the body says that it is something else.
        InvalidJson: the body cannot be read.
        RequestEntityTooLarge: the body is above the limit; it was not read.
    """
    check_is_json(req)
    body = req.get_data(cache=False)
    if req.content_length is None:
        # Werkzeug stops at the limit without a word; one more read raises where there is more.
        req.stream.read(1)
    remember_body(body)
    return parse_json(body)


def check_is_json(req: Request) -> None:
    """Refuse a body that says that it is something else, before it is read.

    Raises:
        InvalidRequest: it does.
    """
    if not req.is_json:
        message = f"the body must be JSON with 'Content-Type: application/json', not '{req.mimetype}'"
        raise InvalidRequest(message, param="Content-Type", code="unsupported_content_type")
    if req.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = "a compressed body is not taken; send it as it is"
        raise InvalidRequest(message, param="Content-Encoding", code="unsupported_content_type")


def parse_json(body: bytes) -> Any:
    """Parse strictly.

    Raises:
        InvalidJson: not UTF-8, not JSON, NaN, a lone surrogate, nested too deeply.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from error
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH_PROBE:
        _check_depth(document)
    return document


def _check_depth(document: Any) -> None:
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise InvalidJson("the body is nested too deeply") from error


def _nested(query: dict[str, str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in query.items():
        match = _BRACKETED.fullmatch(name)
        if match is None:
            nested.setdefault(name, value)
        elif isinstance(nested.setdefault(match[1], {}), dict):
            nested[match[1]][match[2]] = value
    return nested
