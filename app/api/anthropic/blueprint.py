"""What the routes of the Anthropic dialect have in common: the header ``anthropic-version`` and the error body."""

from __future__ import annotations

from typing import Any

from flask import g, request

from app import errors
from app.api.blueprints import EXAMPLE_REQUEST_ID, ApiBlueprint, first_line
from app.api.error_handlers import anthropic_body
from app.api.error_tables import kind_of
from app.domain.message_params import ApiVersion

HEADER = "anthropic-version"
_VERSIONS = ", ".join(ApiVersion)
_HEADER_DOC = {
    "name": HEADER,
    "in": "header",
    "required": True,
    "description": f"From `{ApiVersion.WITHOUT_SAMPLING}` on a message takes no `temperature`, `top_p` and `top_k`",
    "schema": {"type": "string", "enum": [str(version) for version in ApiVersion]},
    "example": ApiVersion.FIRST.value,
}


class AnthropicBlueprint(ApiBlueprint):
    """Routes of the Anthropic dialect."""

    error_schema = "AnthropicError"
    always = (errors.MissingParameter, errors.InvalidRequest)

    def __init__(self, name: str, *, description: str, **kwargs: Any) -> None:
        super().__init__(name, description=description, **kwargs)
        self.before_request(_check_version)

    def error_status(self, refusal: type[errors.NightshiftError]) -> int:
        """See ``ApiBlueprint``."""
        return int(kind_of(refusal).anthropic_status)

    def error_example(self, refusal: type[errors.NightshiftError]) -> dict[str, Any]:
        """See ``ApiBlueprint``."""
        return anthropic_body(kind_of(refusal), message=first_line(refusal), request_id=EXAMPLE_REQUEST_ID)

    def _prepare_refusals_doc(self, doc: dict[str, Any], doc_info: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        doc = super()._prepare_refusals_doc(doc, doc_info, **kwargs)
        doc.setdefault("parameters", []).append(_HEADER_DOC)
        return doc


def api_version() -> ApiVersion:
    """The version that this request was written for."""
    version: ApiVersion = g.api_version
    return version


def _check_version() -> None:
    sent = request.headers.get(HEADER)
    if sent is None:
        message = f"the header '{HEADER}' is missing; send one of {_VERSIONS}"
        raise errors.MissingParameter(message, param=HEADER)
    if sent not in set(ApiVersion):
        message = f"there is no {HEADER} {sent[:40]!r}; send one of {_VERSIONS}"
        raise errors.InvalidRequest(message, param=HEADER)
    g.api_version = ApiVersion(sent)
