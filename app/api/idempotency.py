"""``Idempotency-Key`` on the routes that create: the same request is answered with the same bytes and creates once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import quote

from flask import Response, current_app, g, request

from app.api import context
from app.domain.idempotency import HEADER, Answer, RequestKey
from app.services.answer_once import AlreadyAnswered, Once

View = Callable[..., Any]
Created = TypeVar("Created")
REPLAYED = "idempotent-replayed"
PARAMETER_DOC = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Names this request, so that it can be sent again after a broken connection without creating twice. The same "
        f"key with the same body is answered as before, with `{REPLAYED}: true`; with another body it is refused. A "
        "request that was refused or failed leaves its key free. Keys are kept for 24 hours, per tenant and route."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
REPLAYED_DOC = {
    "description": "`true` on an answer that was given before",
    "schema": {"type": "string", "enum": ["true"]},
}


def remember_body(body: bytes) -> None:
    """Note the digest of a body that is about to be parsed, where its request has a key."""
    if HEADER in request.headers:
        g.body_sha256 = hashlib.sha256(body).digest()


def answers_once(view: View, render: Callable[[Any], Answer], *, streamed: bool) -> View:
    """Wrap a view that creates: it is called with ``once``, which it hands to its service, None without a key.

    Args:
        streamed: whether the view reads the body as it arrives; its service then gives the digest.
    """

    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> Response:
        try:
            once = _once(render, streamed=streamed)
            created = view(*args, once=once, **kwargs)
        except AlreadyAnswered as repeat:
            return _response(repeat.answer, replayed=True)
        return _response(once.answer if once is not None and once.answer is not None else render(created))

    return answer


def _once(render: Callable[[Created], Answer], *, streamed: bool) -> Once[Created] | None:
    key = request.headers.get(HEADER)
    if key is None:
        return None
    named = RequestKey(context.tenant_id_or_none(), _route(), key)
    digest = None if streamed else _body_sha256()
    return Once(wiring=context.wiring(), request=named, body_sha256=digest, render=render)


def _route() -> str:
    """Method and path, quoted so that any path can be stored."""
    return f"{request.method} {quote(request.path.rstrip('/'), errors='replace')}"


def _body_sha256() -> bytes:
    if "body_sha256" not in g:
        remember_body(request.get_data(cache=False))
    digest: bytes = g.body_sha256
    return digest


def _response(answer: Answer, *, replayed: bool = False) -> Response:
    response = current_app.response_class(answer.body, status=answer.status, mimetype="application/json")
    response.headers.extend(answer.headers)
    if replayed:
        response.headers[REPLAYED] = "true"
    return response
