"""Read a file upload as it arrives: the content is handed on piece by piece and is nowhere kept.

Werkzeug's own form parser writes the file to disk before a view sees it; here the object store pulls the content
straight out of the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, BinaryIO, cast

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from app.errors import InvalidRequest, MissingParameter, UnknownParameter
from app.schemas.files import UploadFieldsSchema, file_options
from app.services.create_file import FileOptions

BLOCK_BYTES = 128 * 1024
MAX_BUFFER_BYTES = 1024 * 1024
MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 32
_LONGEST_PADDING_BYTES = 64
MAX_FILENAME_CHARS = 255
FILE_FIELD = "file"
PART_FIELD = "data"


class _Form:
    """A ``multipart/form-data`` request with one file; its fields may stand before or behind the file."""

    def __init__(self, request: Request, file_field: str) -> None:
        """Read up to the beginning of the file.

        Raises:
            InvalidRequest: not such a form, or no file in it.
        """
        self._file_field = file_field
        self._events = _events(request, file_field)
        self._fields: dict[str, str] = {}
        self.filename = self._find_file()
        self.content = cast("BinaryIO", _PartReader(self._events))

    def _read_rest(self) -> None:
        """Read the fields behind the file."""
        for event in self._events:
            if isinstance(event, File):
                raise InvalidRequest("the form holds more than one file", param=event.name)
            if isinstance(event, Field):
                self._take_field(event)

    def _find_file(self) -> str:
        for event in self._events:
            if isinstance(event, Field):
                self._take_field(event)
            elif isinstance(event, File):
                return _checked_filename(event, self._file_field)
        field = self._file_field
        raise MissingParameter(f"the form holds no file; send one as the field '{field}'", param=field)

    def _take_field(self, field: Field) -> None:
        value = bytearray()
        for event in self._events:
            data = cast("Data", event)
            value += data.data
            if len(value) > MAX_FIELD_BYTES:
                raise InvalidRequest(f"the field is longer than {MAX_FIELD_BYTES} bytes", param=_shown(field.name))
            if not data.more_data:
                break
        try:
            self._fields[field.name] = value.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest("the field is not UTF-8", param=_shown(field.name)) from error


class MultipartUpload(_Form):
    """An ``Upload`` out of a request."""

    def __init__(self, request: Request) -> None:
        """Read up to the beginning of the file.

        Raises:
            InvalidRequest: not such a form, no file in it, or a field before the file is already wrong.
        """
        super().__init__(request, FILE_FIELD)
        UploadFieldsSchema.check_early(self._fields, filename=self.filename)

    def finish(self) -> FileOptions:
        """See ``Upload.finish``."""
        self._read_rest()
        return file_options(self._fields, filename=self.filename)


class MultipartPart(_Form):
    """An ``ArrivingPart`` out of a request: nothing but its content in the field ``data``."""

    def __init__(self, request: Request) -> None:
        """Read up to the beginning of the content.

        Raises:
            InvalidRequest: not such a form, no file in it, or another field before it.
        """
        super().__init__(request, PART_FIELD)
        self._refuse_fields()

    def finish(self) -> None:
        """See ``ArrivingPart.finish``."""
        self._read_rest()
        self._refuse_fields()

    def _refuse_fields(self) -> None:
        if name := next(iter(self._fields), None):
            raise UnknownParameter(f"there is no field {_shown(name)!r}", param=_shown(name))


class _PartReader:
    """The content of the part that has just begun, as a stream."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._rest = b""
        self._more = True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes (all if negative), b"" at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        while not self._rest and self._more:
            data = cast("Data", next(self._events))
            self._rest, self._more = data.data, data.more_data
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _events(request: Request, file_field: str) -> Iterator[Event]:
    """What the form holds, as it arrives.

    Raises:
        InvalidRequest: the form is malformed or ends before its last boundary.
    """
    boundary = _boundary(request, file_field)
    decoder = MultipartDecoder(boundary, MAX_BUFFER_BYTES, max_parts=MAX_PARTS)
    n_parts = 0
    try:
        while True:
            event = decoder.next_event()
            if isinstance(event, NeedData):
                decoder.receive_data(_next_block(request.stream, decoder.buffer, boundary) or None)
                continue
            n_parts += isinstance(event, File | Field)
            yield event
            if isinstance(event, Epilogue):
                return
    except ValueError as error:
        raise InvalidRequest("the form is malformed, or the upload broke off before its end") from error
    except RequestEntityTooLarge as error:
        if decoder.buffer and len(decoder.buffer) + BLOCK_BYTES > MAX_BUFFER_BYTES:
            raise InvalidRequest("the form has a header that is far too long") from error
        if n_parts >= MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts") from error
        raise


def _next_block(stream: IO[bytes], pending: bytearray, boundary: bytes) -> bytes:
    """Read on, but never up to the middle of a delimiter.

    Where its data ends right behind ``--boundary-``, Werkzeug 3.1's decoder takes the carriage return in front of the
    boundary for content (https://github.com/pallets/werkzeug/issues/3285).
    """
    block = stream.read(BLOCK_BYTES)
    half_delimiter = re.compile(rb"--%s[- \t]*\Z" % re.escape(boundary))
    n_looked_at = len(boundary) + _LONGEST_PADDING_BYTES
    while half_delimiter.search((pending[-n_looked_at:] + block)[-n_looked_at:]):
        more = stream.read(_LONGEST_PADDING_BYTES)
        if not more:
            break
        block += more
    return block


def _boundary(request: Request, file_field: str) -> bytes:
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary:
        message = f"this must be 'multipart/form-data' with the content in the field '{file_field}'"
        raise InvalidRequest(message, param="Content-Type", code="unsupported_content_type")
    return boundary.encode("latin-1", "replace")


def _checked_filename(file: File, file_field: str) -> str:
    if file.name != file_field:
        message = f"there is no file field {_shown(file.name)!r}; send '{file_field}'"
        raise UnknownParameter(message, param=_shown(file.name))
    if not file.filename or len(file.filename) > MAX_FILENAME_CHARS or "\0" in file.filename:
        message = f"the file needs a name of 1 to {MAX_FILENAME_CHARS} characters"
        raise InvalidRequest(message, param=file_field)
    return file.filename


def _shown(name: str | None) -> str:
    return (name or "")[:80]
