"""``/v1/uploads``: files that arrive in parts, in the OpenAI dialect."""

from __future__ import annotations

from typing import Any

from flask import request

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.api.examples import EXAMPLES
from app.api.multipart import MultipartPart
from app.api.openai.files import FORM_ROOM_BYTES
from app.domain.uploads import UploadDetails, UploadPart, UploadRequest
from app.errors import (
    InvalidRequest,
    MissingParameter,
    NotFound,
    RequestTooLarge,
    StateConflict,
    StorageQuotaExceeded,
    StorageUnavailable,
    UnknownParameter,
)
from app.schemas.uploads import (
    UploadCompleteSchema,
    UploadPartFormSchema,
    UploadPartSchema,
    UploadRequestSchema,
    UploadSchema,
)
from app.services.add_upload_part import add_upload_part
from app.services.answer_once import Once
from app.services.cancel_upload import cancel_upload
from app.services.complete_upload import complete_upload
from app.services.create_upload import create_upload

blueprint = ApiBlueprint("uploads", url_prefix="/v1/uploads", description="Files that arrive in parts")

_PART_DOC = {
    "required": True,
    "content": {"multipart/form-data": {"schema": UploadPartFormSchema, "example": EXAMPLES[UploadPartFormSchema]}},
}


@blueprint.route("", methods=["POST"])
@blueprint.refuses(StorageQuotaExceeded)
@blueprint.arguments(
    UploadRequestSchema,
    example={"bytes": 500_000_000, "filename": "big.jsonl", "mime_type": "application/jsonl", "purpose": "batch"},
)
@blueprint.creates(200, UploadSchema)
def post_upload(upload: UploadRequest, *, once: Once[UploadDetails] | None) -> UploadDetails:
    """Announce a file that arrives in parts.

    For files above the limit of `POST /v1/files`. Add the parts, in any order and several at once, then complete the
    upload, within an hour.
    """
    return create_upload(wiring=context.wiring(), tenant_id=context.tenant_id(), request=upload, once=once)


@blueprint.route("/<upload_id>/parts", methods=["POST"])
@blueprint.doc(requestBody=_PART_DOC)
@blueprint.refuses(
    InvalidRequest,
    MissingParameter,
    UnknownParameter,
    RequestTooLarge,
    NotFound,
    StateConflict,
    StorageUnavailable,
)
@blueprint.creates(200, UploadPartSchema, streamed=True)
def post_upload_part(upload_id: str, *, once: Once[UploadPart] | None) -> UploadPart:
    """Add a part to an upload.

    Up to 64 MB in the field `data`, stored as they arrive.
    """
    wiring = context.wiring()
    request.max_content_length = wiring.settings.max_part_bytes + FORM_ROOM_BYTES
    return add_upload_part(
        wiring=wiring,
        tenant_id=context.tenant_id(),
        upload_id=upload_id,
        receive=lambda: MultipartPart(request),
        once=once,
    )


@blueprint.route("/<upload_id>/complete", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict, StorageQuotaExceeded, StorageUnavailable)
@blueprint.arguments(UploadCompleteSchema)
@blueprint.creates(200, UploadSchema)
def post_upload_complete(body: dict[str, Any], upload_id: str, *, once: Once[UploadDetails] | None) -> UploadDetails:
    """Make a file of the parts of an upload.

    In the order of `part_ids`; their sizes must come to what was announced. Completing again with the same parts is
    no error.
    """
    return complete_upload(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        upload_id=upload_id,
        part_ids=body["part_ids"],
        md5=body["md5"],
        once=once,
    )


@blueprint.route("/<upload_id>/cancel", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, UploadSchema)
def post_upload_cancel(upload_id: str) -> UploadDetails:
    """Cancel an upload.

    It takes no more parts. Cancelling twice is no error.
    """
    return cancel_upload(wiring=context.wiring(), tenant_id=context.tenant_id(), upload_id=upload_id)
