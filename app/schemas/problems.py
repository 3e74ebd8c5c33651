"""What marshmallow found wrong with a request, as one of our errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from marshmallow import ValidationError
from marshmallow.exceptions import SCHEMA
from marshmallow.fields import Field

from app.errors import InvalidRequest, MissingParameter, UnknownParameter

MISSING = Field.default_error_messages["required"]
UNKNOWN = "There is no such field."


def refusal_of(error: ValidationError) -> InvalidRequest:
    """Our error for the first problem found; ``param`` is its path, such as ``inputs[3].body``."""
    problems: Any = error.messages
    found = list(_flat(problems, ""))
    param, message = found[0]
    further = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    text = f"{param or 'the request'}: {message}{further}"
    if message == MISSING:
        return MissingParameter(text, param=param or None)
    if message == UNKNOWN:
        return UnknownParameter(text, param=param or None)
    return InvalidRequest(text, param=param or None)


def _flat(problems: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every problem as (path, message), in the order of the fields."""
    if not isinstance(problems, dict):
        messages = problems if isinstance(problems, list) else [problems]
        yield from ((path, str(message)) for message in messages)
        return
    for name, inner in problems.items():
        yield from _flat(inner, _extend(path, name))


def _extend(path: str, name: Any) -> str:
    if name == SCHEMA:
        return path
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else str(name)
