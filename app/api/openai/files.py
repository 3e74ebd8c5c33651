"""``/v1/files``: upload, list, read, delete."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.api.examples import EXAMPLES
from app.api.multipart import MultipartUpload
from app.api.streaming import stream_content
from app.domain.files import File
from app.domain.pages import Page
from app.errors import (
    InvalidRequest,
    MissingParameter,
    NotFound,
    RangeNotSatisfiable,
    RequestTooLarge,
    StorageQuotaExceeded,
    StorageUnavailable,
    UnknownParameter,
)
from app.schemas.files import (
    FileDeletedSchema,
    FileListQuerySchema,
    FileListSchema,
    FileSchema,
    UploadFormSchema,
)
from app.services.answer_once import Once
from app.services.create_file import create_file
from app.services.delete_file import delete_file
from app.services.list_files import list_files
from app.services.read_file_content import read_file_content
from app.services.show_file import show_file

blueprint = ApiBlueprint("files", url_prefix="/v1/files", description="Inputs and outputs of jobs")

FORM_ROOM_BYTES = 1024 * 1024
"""What an upload may hold beside its file: fields, boundaries, headers."""
_UPLOAD_DOC = {
    "required": True,
    "content": {"multipart/form-data": {"schema": UploadFormSchema, "example": EXAMPLES[UploadFormSchema]}},
}
_CONTENT_DOC = {"type": "string", "format": "binary"}
_CONTENT_EXAMPLE = '{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}\n'


@blueprint.route("", methods=["POST"])
@blueprint.doc(requestBody=_UPLOAD_DOC)
@blueprint.refuses(
    InvalidRequest, MissingParameter, UnknownParameter, RequestTooLarge, StorageQuotaExceeded, StorageUnavailable
)
@blueprint.creates(200, FileSchema, streamed=True)
def upload_file(*, once: Once[File] | None) -> File:
    """Upload a file.

    The content is stored as it arrives. A file with the purpose `batch` needs a name ending in `.jsonl`; its lines
    are checked when a job reads it. Files live for 30 days unless `expires_after` says otherwise.
    """
    wiring = context.wiring()
    request.max_content_length = wiring.settings.max_file_bytes + FORM_ROOM_BYTES
    upload = MultipartUpload(request)
    return create_file(wiring=wiring, tenant_id=context.tenant_id(), upload=upload, once=once)


@blueprint.route("", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.arguments(FileListQuerySchema, location="query")
@blueprint.response(200, FileListSchema)
def get_files(query: dict[str, Any]) -> Page[File]:
    """List files."""
    return list_files(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        limit=query["limit"],
        after=query["after"],
        purpose=query["purpose"],
        newest_first=query["order"] == "desc",
    )


@blueprint.route("/<file_id>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, FileSchema)
def get_file(file_id: str) -> File:
    """Show a file."""
    return show_file(wiring=context.wiring(), tenant_id=context.tenant_id(), file_id=file_id)


@blueprint.route("/<file_id>/content", methods=["GET"])
@blueprint.refuses(NotFound, RangeNotSatisfiable, StorageUnavailable)
@blueprint.response(200, _CONTENT_DOC, content_type="application/octet-stream", example=_CONTENT_EXAMPLE)
def get_file_content(file_id: str) -> Response:
    """Download a file.

    `Range` is honoured with a single range.
    """
    wiring = context.wiring()
    content = read_file_content(wiring=wiring, tenant_id=context.tenant_id(), file_id=file_id)
    return stream_content(wiring.storage, content, mimetype="application/octet-stream")


@blueprint.route("/<file_id>", methods=["DELETE"])
@blueprint.refuses(NotFound)
@blueprint.response(200, FileDeletedSchema)
def remove_file(file_id: str) -> dict[str, str]:
    """Delete a file.

    A live job that reads the file keeps its content until it ends.
    """
    delete_file(wiring=context.wiring(), tenant_id=context.tenant_id(), file_id=file_id)
    return {"id": file_id}
