"""Files as the OpenAI dialect shows them, and the fields of an upload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from app.domain.files import BATCH_PURPOSE
from app.errors import InvalidRequest, MissingParameter
from app.schemas.fields import RequestSchema, Text, UnixTime
from app.schemas.problems import refusal_of
from app.services.create_file import FileOptions

UPLOAD_PURPOSES = ("batch", "assistants", "fine-tune", "vision", "user_data")
SHORTEST_LIFE_S = 3_600
LONGEST_LIFE_S = 2_592_000
MAX_FILES_PAGE = 10_000
_EXAMPLE_ID = "file-0199a0c27d4e0123456789abcdef0123"


class UploadFieldsSchema(RequestSchema):
    """The text fields of an upload form."""

    purpose = Text(required=True, validate=validate.OneOf(UPLOAD_PURPOSES))
    anchor = Text(data_key="expires_after[anchor]", validate=validate.Equal("created_at"))
    seconds = fields.Integer(
        data_key="expires_after[seconds]", validate=validate.Range(min=SHORTEST_LIFE_S, max=LONGEST_LIFE_S)
    )

    @classmethod
    def check_early(cls, sent: Mapping[str, str], *, filename: str) -> None:
        """Refuse what is already known to be wrong before the content is taken in.

        Raises:
            InvalidRequest: a field is wrong, or the name does not suit the purpose.
        """
        _load(cls(partial=True), sent)
        check_name(sent.get("purpose"), filename)


class UploadFormSchema(UploadFieldsSchema):
    """The whole upload form, for the documentation."""

    file = fields.Raw(required=True, metadata={"type": "string", "format": "binary"})


def file_options(sent: Mapping[str, str], *, filename: str) -> FileOptions:
    """What the fields of a complete upload say.

    Raises:
        InvalidRequest: a field is wrong or missing, or the name does not suit the purpose.
    """
    loaded = _load(UploadFieldsSchema(), sent)
    check_name(loaded["purpose"], filename)
    _check_expiry(loaded)
    return FileOptions(purpose=loaded["purpose"], expires_after_s=loaded.get("seconds"))


def _load(schema: Schema, sent: Mapping[str, str]) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(sent)
    except ValidationError as error:
        raise refusal_of(error) from error
    return loaded


def _check_expiry(loaded: Mapping[str, Any]) -> None:
    for given, needed in (("anchor", "seconds"), ("seconds", "anchor")):
        if given in loaded and needed not in loaded:
            param = f"expires_after[{needed}]"
            raise MissingParameter(f"{param}: 'expires_after' needs its anchor and its seconds", param=param)


def check_name(purpose: str | None, filename: str, *, param: str = "file") -> None:
    """Refuse a name that does not suit the purpose.

    Raises:
        InvalidRequest: ``param`` is the field that the name came in.
    """
    if purpose == BATCH_PURPOSE and not filename.lower().endswith(".jsonl"):
        raise InvalidRequest("a file with the purpose 'batch' must have a name ending in .jsonl", param=param)


class FileSchema(Schema):
    """A file."""

    id = fields.String(required=True, metadata={"example": _EXAMPLE_ID})
    object = fields.Constant("file", metadata={"enum": ["file"]})
    bytes = fields.Integer(attribute="size_bytes", required=True)
    created_at = UnixTime(required=True, metadata={"description": "Unix seconds"})
    expires_at = UnixTime(required=True, allow_none=True, metadata={"description": "Unix seconds"})
    filename = fields.String(required=True)
    purpose = fields.String(required=True)
    status = fields.Constant("processed", metadata={"enum": ["processed"]})


class FileListSchema(Schema):
    """A page of files."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(FileSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: page.items[0].id if page.items else None, metadata={"type": "string", "nullable": True}
    )
    last_id = fields.Function(
        lambda page: page.items[-1].id if page.items else None, metadata={"type": "string", "nullable": True}
    )


class FileDeletedSchema(Schema):
    """The answer to a deletion."""

    id = fields.String(required=True)
    object = fields.Constant("file", metadata={"enum": ["file"]})
    deleted = fields.Constant(True)


class FileListQuerySchema(RequestSchema):
    """How to walk the list of files."""

    after = Text(load_default=None, metadata={"description": "Id of the last file of the page before"})
    limit = fields.Integer(load_default=MAX_FILES_PAGE, validate=validate.Range(min=1, max=MAX_FILES_PAGE))
    order = Text(load_default="desc", validate=validate.OneOf(["asc", "desc"]))
    purpose = Text(load_default=None)
