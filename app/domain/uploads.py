"""An upload in parts: a file that arrives in several requests and is put together at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.files import File
from app.errors import InvalidRequest, RequestTooLarge, StateConflict

MAX_PARTS = 10_000
UPLOAD_PREFIX = "upload_"
PART_PREFIX = "part_"


class UploadStatus(StrEnum):
    """Where an upload stands, in the words of the OpenAI API."""

    PENDING = "pending"  # takes parts
    COMPLETED = "completed"  # its file is there
    CANCELLED = "cancelled"  # the client gave it up
    EXPIRED = "expired"  # it was not completed in time


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRequest:
    """What a client announces."""

    size_bytes: int
    filename: str
    mime_type: str
    purpose: str
    file_expires_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartedUpload:
    """One row of ``uploads``."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    size_bytes: int
    file_expires_after_s: int | None
    status: UploadStatus
    file_id: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPart:
    """One row of ``upload_parts``."""

    id: str
    upload_id: str
    object_key: str
    size_bytes: int
    ordinal: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UploadDetails:
    """An upload, and its file where it is completed and still there."""

    upload: PartedUpload
    file: File | None = None


def check_takes_parts(upload: PartedUpload) -> None:
    """Refuse what only a pending upload allows.

    Raises:
        StateConflict: it is completed, cancelled or expired.
    """
    if upload.status is not UploadStatus.PENDING:
        message = f"Upload {upload.id} is {upload.status}; only a pending one can be added to, completed or cancelled."
        raise StateConflict(message, current=upload.status, wanted=UploadStatus.PENDING)


def is_completed_with(parts: Mapping[str, UploadPart], part_ids: Sequence[str]) -> bool:
    """Whether a completed upload was made of just these parts, in this order."""
    used = sorted((part for part in parts.values() if part.ordinal is not None), key=lambda part: part.ordinal or 0)
    return [part.id for part in used] == list(part_ids)


def chosen_parts(upload: PartedUpload, parts: Mapping[str, UploadPart], part_ids: Sequence[str]) -> list[UploadPart]:
    """The parts of a file in the order that was asked for.

    Raises:
        InvalidRequest: a part is unknown or named twice, or together they have another size than was announced.
    """
    if (unknown := next((part_id for part_id in part_ids if part_id not in parts), None)) is not None:
        raise InvalidRequest(f"Upload {upload.id} has no part {unknown[:80]!r}.", param="part_ids")
    if len(set(part_ids)) != len(part_ids):
        raise InvalidRequest("A part stands twice in 'part_ids'.", param="part_ids")
    chosen = [parts[part_id] for part_id in part_ids]
    size_bytes = sum(part.size_bytes for part in chosen)
    if size_bytes != upload.size_bytes:
        message = f"The parts have {size_bytes} bytes; {upload.size_bytes} were announced when the upload was created."
        raise InvalidRequest(message, param="part_ids", code="bytes_mismatch")
    return chosen


def check_room_for_part(upload: PartedUpload, parts: Iterable[UploadPart], size_bytes: int) -> None:
    """Refuse a part that an upload cannot need: parts sent twice have room, an upload without an end has not.

    Raises:
        RequestTooLarge: there are too many parts, or together they have more than twice the announced size.
    """
    sizes = [part.size_bytes for part in parts]
    if len(sizes) >= MAX_PARTS:
        raise RequestTooLarge(f"Upload {upload.id} has {MAX_PARTS} parts, the most there may be.", param="data")
    if sum(sizes) + size_bytes > 2 * upload.size_bytes:
        message = f"The parts of upload {upload.id} come to more than twice the {upload.size_bytes} bytes announced."
        raise RequestTooLarge(message, param="data")
