"""Uploads in parts, in the OpenAI dialect."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, post_load, validate

from app.domain.uploads import MAX_PARTS, UploadRequest, UploadStatus
from app.schemas.fields import RequestSchema, Text, UnixTime
from app.schemas.files import LONGEST_LIFE_S, SHORTEST_LIFE_S, UPLOAD_PURPOSES, FileSchema, check_name
from app.schemas.jobs import StrictInteger

MAX_NAME_CHARS = 255
MAX_MIME_CHARS = 127


class ExpiresAfterSchema(RequestSchema):
    """How long the file is to live."""

    anchor = Text(required=True, validate=validate.Equal("created_at"))
    seconds = StrictInteger(required=True, validate=validate.Range(min=SHORTEST_LIFE_S, max=LONGEST_LIFE_S))


class UploadRequestSchema(RequestSchema):
    """A file that will arrive in parts."""

    bytes = StrictInteger(required=True, validate=validate.Range(min=1), metadata={"description": "Of the whole file"})
    filename = Text(required=True, validate=validate.Length(min=1, max=MAX_NAME_CHARS))
    mime_type = Text(required=True, validate=validate.Length(min=1, max=MAX_MIME_CHARS))
    purpose = Text(required=True, validate=validate.OneOf(UPLOAD_PURPOSES))
    expires_after = fields.Nested(ExpiresAfterSchema, load_default=None, allow_none=True)

    @post_load
    def make(self, data: dict[str, Any], **_kwargs: Any) -> UploadRequest:
        """Make the request of what was loaded.

        Raises:
            InvalidRequest: the name does not suit the purpose.
        """
        check_name(data["purpose"], data["filename"], param="filename")
        return UploadRequest(
            size_bytes=data["bytes"],
            filename=data["filename"],
            mime_type=data["mime_type"],
            purpose=data["purpose"],
            file_expires_after_s=data["expires_after"]["seconds"] if data["expires_after"] else None,
        )


class UploadCompleteSchema(RequestSchema):
    """Which parts, in which order."""

    part_ids = fields.List(Text(), required=True, validate=validate.Length(min=1, max=MAX_PARTS))
    md5 = Text(
        load_default=None,
        allow_none=True,
        validate=validate.Regexp(r"^[0-9a-fA-F]{32}\Z", error="This must be an md5 as 32 hex digits."),
        metadata={"description": "Of the whole content, as hex"},
    )


class UploadPartFormSchema(Schema):
    """The form of a part, for the documentation."""

    data = fields.Raw(required=True, metadata={"type": "string", "format": "binary"})


class UploadSchema(Schema):
    """An upload in parts."""

    id = fields.String(attribute="upload.id", required=True)
    object = fields.Constant("upload", metadata={"enum": ["upload"]})
    bytes = fields.Integer(attribute="upload.size_bytes", required=True)
    created_at = UnixTime(attribute="upload.created_at", required=True, metadata={"description": "Unix seconds"})
    expires_at = UnixTime(attribute="upload.expires_at", required=True, metadata={"description": "Unix seconds"})
    filename = fields.String(attribute="upload.filename", required=True)
    purpose = fields.String(attribute="upload.purpose", required=True)
    status = fields.String(
        attribute="upload.status", required=True, metadata={"enum": [status.value for status in UploadStatus]}
    )
    file = fields.Nested(FileSchema, required=True, allow_none=True)


class UploadPartSchema(Schema):
    """One part of an upload."""

    id = fields.String(required=True)
    object = fields.Constant("upload.part", metadata={"enum": ["upload.part"]})
    created_at = UnixTime(required=True, metadata={"description": "Unix seconds"})
    upload_id = fields.String(required=True)
