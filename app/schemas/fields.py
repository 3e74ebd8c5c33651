"""Fields and the base of schemas for requests: strict about types, and nothing that Postgres cannot store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields

from app.schemas.problems import UNKNOWN

MAX_DEPTH = 64
MAX_OBJECT_BYTES = 64 * 1024
"""An object is kept in a row and read with it, one for each job of a list."""
METADATA_PAIRS = 16
METADATA_KEY_CHARS = 64
METADATA_VALUE_CHARS = 512
_MESSAGES = {"unknown": UNKNOWN, "type": "This must be a JSON object."}
_NUL = "The character U+0000 is not allowed."


class RequestSchema(Schema):
    """Loads a request; a field that it does not have is refused."""

    class Meta:
        """Options."""

        unknown = RAISE

    error_messages = _MESSAGES


class OptionalBodySchema(RequestSchema):
    """Loads a body that may be left out, which then says the same as an empty object."""


class Text(fields.String):
    """A string without U+0000, which Postgres does not store."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text:
            raise ValidationError(_NUL)
        return text


class Number(fields.Float):
    """A JSON number; a string of digits is none."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if isinstance(value, str):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class Flag(fields.Boolean):
    """``true`` or ``false``, and nothing that merely counts as one of them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class JsonObject(fields.Dict):
    """Any JSON object of bounded depth and size, without U+0000."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("This must be a JSON object.")
        _check_storable(value)
        size_bytes = len(orjson.dumps(value))
        if size_bytes > MAX_OBJECT_BYTES:
            raise ValidationError(f"This has {size_bytes} bytes as JSON, {MAX_OBJECT_BYTES} at most.")
        return value


class Metadata(fields.Dict):
    """Up to 16 pairs of strings."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("This must be a JSON object of strings.")
        if len(value) > METADATA_PAIRS:
            raise ValidationError(f"At most {METADATA_PAIRS} pairs are allowed.")
        for key, text in value.items():
            if problem := _metadata_problem(key, text):
                raise ValidationError({key[:METADATA_KEY_CHARS]: [problem]})
        return value


class Timestamp(fields.DateTime):
    """A point in time as RFC 3339 in UTC, to the microsecond, with a ``Z``."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Moment(fields.AwareDateTime):
    """Loads a point in time with its offset; gives it in UTC, which Postgres stores for any year."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment = super()._deserialize(value, attr, data, **kwargs)
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            raise ValidationError("In UTC this lies outside the years 1 to 9999.") from error


class UnixTime(fields.Integer):
    """A point in time as whole Unix seconds."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> int | None:
        return None if value is None else int(value.timestamp())


def _metadata_problem(key: str, text: Any) -> str | None:
    if not isinstance(text, str):
        return "The value must be a string."
    if len(key) > METADATA_KEY_CHARS:
        return f"The key is longer than {METADATA_KEY_CHARS} characters."
    if len(text) > METADATA_VALUE_CHARS:
        return f"The value is longer than {METADATA_VALUE_CHARS} characters."
    return _NUL if "\0" in key or "\0" in text else None


def _check_storable(document: dict[str, Any]) -> None:
    """Refuse what Postgres or a JSON writer could not take, level by level."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        if any(isinstance(value, str) and "\0" in value for value in level):
            raise ValidationError(_NUL)
        level = [inner for value in level for inner in _children(value)]
        if not level:
            return
    raise ValidationError(f"This is nested more than {MAX_DEPTH} levels deep.")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []
