"""Answers that are streamed out of the object store, whole or in part."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response, request
from werkzeug.datastructures import Range
from werkzeug.http import parse_range_header

from app.domain.byte_ranges import Content
from app.errors import RangeNotSatisfiable
from app.ports import ObjectStore
from app.storage.reading import read_content


def stream(blocks: Iterator[bytes], *, mimetype: str, status: int = 200) -> Response:
    """Answer with ``blocks``. The first is fetched at once, so that a failure there still becomes a proper error."""
    return Response(_begun(next(blocks, b""), blocks), status=status, mimetype=mimetype)


def _begun(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def stream_content(storage: ObjectStore, content: Content, *, mimetype: str, may_be_cut: bool = True) -> Response:
    """Answer with ``content``, or with the piece that the request's ``Range`` asks for where it ``may_be_cut``.

    ``Content-Length`` is always sent, so a stream that fails halfway is seen as such by every client.

    Raises:
        RangeNotSatisfiable: the range lies outside the content.
    """
    size_bytes = content.size_bytes
    piece = _asked_piece(size_bytes) if may_be_cut else None
    wanted = content if piece is None else content.cut(piece[0], piece[1] - piece[0])
    response = stream(read_content(storage, wanted), mimetype=mimetype, status=200 if piece is None else 206)
    response.headers["Accept-Ranges"] = "bytes" if may_be_cut else "none"
    response.headers["Content-Length"] = str(wanted.size_bytes)
    if piece is not None:
        response.headers["Content-Range"] = f"bytes {piece[0]}-{piece[1] - 1}/{size_bytes}"
    return response


def _asked_piece(size_bytes: int) -> tuple[int, int] | None:
    """First byte and end of what is asked for; None for all of it.

    A header that is malformed, asks for several pieces, or comes with ``If-Range`` may be answered with everything
    (RFC 9110, 14.2), and is.
    """
    asked = parse_range_header(request.headers.get("Range"))
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1 or "If-Range" in request.headers:
        return None
    (begin, end), *_ = asked.ranges
    if end is None and size_bytes:
        asked = Range("bytes", [(max(begin, -size_bytes), None)])  # of the last 500 bytes of 100 there are 100
    piece = asked.range_for_length(size_bytes)
    if piece is None:
        raise RangeNotSatisfiable(_outside(asked, size_bytes), size_bytes=size_bytes)
    return piece


def _outside(asked: Range, size_bytes: int) -> str:
    return f"the range {asked.to_header()!r} lies outside the content, which has {size_bytes} bytes"
