"""``/openapi.json``: every route and every error, from the same schemas that serve them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from flask import Flask, Response, current_app
from flask_smorest import Api
from marshmallow.fields import Field

from app.api.blueprints import Access, ApiBlueprint
from app.schemas.errors import AnthropicErrorSchema, ErrorSchema

blueprint = ApiBlueprint("documentation", access=Access.OPEN, description="What this server can do")

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}


class DocumentedApi(Api):  # type: ignore[misc]  # flask-smorest ships no types
    """flask-smorest's registry of blueprints, with our error body and our own error handlers."""

    ERROR_SCHEMA = ErrorSchema
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """Ours answer: see ``app/api/error_handlers.py``."""


def make_api(app: Flask, *, public_url: str) -> DocumentedApi:
    """The registry in which blueprints of ``app`` are registered, to be served and documented."""
    app.config.update(API_TITLE="Nightshift", API_VERSION="v1", OPENAPI_VERSION="3.0.3")
    options = {
        "info": {"description": "Batch inference on your own GPUs."},
        "servers": [{"url": public_url}],
        "security": [{"bearer": []}, {"api_key": []}],
    }
    api = DocumentedApi(app, spec_kwargs=options)
    api.spec.components.schema("AnthropicError", schema=AnthropicErrorSchema)
    api.ma_plugin.converter.add_attribute_function(_portable_pattern)
    for name, scheme in _SECURITY.items():
        api.spec.components.security_scheme(name, scheme)
    app.extensions["nightshift-openapi"] = cache(lambda: current_app.json.dumps(api.spec.to_dict()))
    return api


def _portable_pattern(_converter: object, _field: Field[Any], ret: dict[str, Any], **_kwargs: Any) -> dict[str, str]:
    """Python's end of a text in the words of ECMA-262, which are those of OpenAPI."""
    pattern = ret.get("pattern")
    return {} if pattern is None else {"pattern": re.sub(r"\\Z$", "$", pattern)}


@blueprint.route("/openapi.json", methods=["GET"])
@blueprint.response(200, {"type": "object"})
def openapi() -> Response:
    """Describe this API in OpenAPI 3.0."""
    return Response(current_app.extensions["nightshift-openapi"](), mimetype="application/json")
