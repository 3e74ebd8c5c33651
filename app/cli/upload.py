"""Send a file to the API: in one request, or in parts where it is large."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from app.cli.client import ApiClient

LARGEST_AT_ONCE_BYTES = 200 * 1024 * 1024
"""What ``POST /v1/files`` takes."""
PART_BYTES = 32 * 1024 * 1024
MIME_TYPE = "application/jsonl"


def upload_file(client: ApiClient, path: Path, console: Console) -> str:
    """Upload a JSONL file; gives the file's id."""
    size_bytes = path.stat().st_size
    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        path.open("rb") as source,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task(f"upload {path.name}", total=size_bytes)
        if size_bytes > LARGEST_AT_ONCE_BYTES:
            return _in_parts(client, source, path.name, size_bytes, progress, task)
        form = {"file": (path.name, _ReadingProgress(source, progress, task), MIME_TYPE)}
        return str(client.upload("/v1/files", data={"purpose": "batch"}, files=form)["id"])


def _in_parts(client: ApiClient, source: BinaryIO, name: str, size_bytes: int, progress: Progress, task: TaskID) -> str:
    announced = {"bytes": size_bytes, "filename": name, "mime_type": MIME_TYPE, "purpose": "batch"}
    upload = f"/v1/uploads/{client.post('/v1/uploads', announced)['id']}"
    part_ids, md5 = [], hashlib.md5(usedforsecurity=False)
    while piece := source.read(PART_BYTES):
        md5.update(piece)
        part: dict[str, Any] = client.upload(f"{upload}/parts", data={}, files={"data": (name, piece)})
        part_ids.append(part["id"])
        progress.advance(task, len(piece))
    completed = client.post(f"{upload}/complete", {"part_ids": part_ids, "md5": md5.hexdigest()}, patient=True)
    return str(completed["file"]["id"])


class _ReadingProgress:
    """A file that tells how far it was read."""

    def __init__(self, source: BinaryIO, progress: Progress, task: TaskID) -> None:
        self._source = source
        self._progress = progress
        self._task = task

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._progress.advance(self._task, len(data))
        return data

    def fileno(self) -> int:
        """Httpx asks for the length through it, and then need not read the file into memory."""
        return self._source.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()
