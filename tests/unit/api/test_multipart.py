"""An upload is read as it arrives, however it is cut into pieces."""

from __future__ import annotations

import io

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import create_environ

from app.api.multipart import MultipartUpload
from app.errors import InvalidRequest, MissingParameter, UnknownParameter

BOUNDARY = "----x"


class Trickle(io.RawIOBase):
    """Gives a body in pieces of given sizes, over and over."""

    def __init__(self, body: bytes, sizes: list[int]) -> None:
        super().__init__()
        self._body, self._sizes, self._turn = io.BytesIO(body), sizes, 0

    def read(self, size: int = -1) -> bytes:
        self._turn += 1
        piece = self._sizes[self._turn % len(self._sizes)]
        return self._body.read(min(size, piece) if size >= 0 else -1)


def _field(name: str, value: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def _file(content: bytes, *, filename: str = "in.jsonl", name: str = "file") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def _request(body: bytes, sizes: list[int] | None = None) -> Request:
    environ = create_environ(method="POST")
    environ["CONTENT_TYPE"] = f"multipart/form-data; boundary={BOUNDARY}"
    environ.pop("CONTENT_LENGTH", None)  # as with chunked transfer
    environ["wsgi.input"] = Trickle(body, sizes or [65536])
    environ["wsgi.input_terminated"] = True
    return Request(environ)


@given(
    content=st.binary(max_size=2000).map(lambda data: data.replace(b"--", b"__")),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    purpose_first=st.booleans(),
)
def test_content_and_fields_survive_any_cut_and_any_order(
    *, content: bytes, sizes: list[int], purpose_first: bool
) -> None:
    purpose, file = _field("purpose", "batch"), _file(content)
    body = (purpose + file if purpose_first else file + purpose) + END
    upload = MultipartUpload(_request(body, sizes))
    assert upload.filename == "in.jsonl"
    assert upload.content.read() == content
    assert upload.finish().purpose == "batch"


def test_line_ends_and_half_boundaries_in_the_content_are_kept() -> None:
    content = b'\r\n{"a": 1}\r\n--' + BOUNDARY[:-1].encode() + b"\r\n\r\n--\r\n"
    upload = MultipartUpload(_request(_field("purpose", "batch") + _file(content) + END, [7]))
    assert upload.content.read() == content


def test_an_expiry_is_read() -> None:
    fields = (
        _field("purpose", "batch")
        + _field("expires_after[anchor]", "created_at")
        + _field("expires_after[seconds]", "3600")
    )
    upload = MultipartUpload(_request(fields + _file(b"x") + END))
    upload.content.read()
    assert upload.finish().expires_after_s == 3600


@pytest.mark.parametrize(("given", "missing"), [("anchor", "seconds"), ("seconds", "anchor")])
def test_half_an_expiry_is_refused(given: str, missing: str) -> None:
    value = {"anchor": "created_at", "seconds": "3600"}[given]
    fields = _field("purpose", "batch") + _field(f"expires_after[{given}]", value)
    upload = MultipartUpload(_request(fields + _file(b"x") + END))
    upload.content.read()
    with pytest.raises(MissingParameter) as refusal:
        upload.finish()
    assert refusal.value.param == f"expires_after[{missing}]"


def test_a_form_of_very_many_parts_is_refused_for_that() -> None:
    fields = b"".join(_field("purpose", "batch") for _ in range(100))
    with pytest.raises(InvalidRequest, match="parts"):
        MultipartUpload(_request(fields + _file(b"x") + END))


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_an_upload_that_breaks_off_is_refused(cut: int) -> None:
    body = _field("purpose", "batch") + _file(b"x" * 100) + END
    upload = MultipartUpload(_request(body[: -len(END) - cut]))
    with pytest.raises(InvalidRequest, match="broke off"):
        upload.content.read()


def test_a_wrong_purpose_is_refused_before_the_content_is_read() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        MultipartUpload(_request(_field("purpose", "nonsense") + _file(b"x") + END))
    assert refusal.value.param == "purpose"


def test_a_missing_purpose_is_found_at_the_end() -> None:
    upload = MultipartUpload(_request(_file(b"x") + END))
    upload.content.read()
    with pytest.raises(MissingParameter) as refusal:
        upload.finish()
    assert refusal.value.param == "purpose"


def test_a_form_without_a_file_is_refused() -> None:
    with pytest.raises(MissingParameter) as refusal:
        MultipartUpload(_request(_field("purpose", "batch") + END))
    assert refusal.value.param == "file"


def test_a_field_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownParameter) as refusal:
        MultipartUpload(_request(_field("purpos", "batch") + _file(b"x") + END))
    assert refusal.value.param == "purpos"


def test_a_second_file_is_refused() -> None:
    upload = MultipartUpload(_request(_field("purpose", "batch") + _file(b"x") + _file(b"y") + END))
    upload.content.read()
    with pytest.raises(InvalidRequest, match="more than one file"):
        upload.finish()


@pytest.mark.parametrize("filename", ["in.txt", "in.jsonl.exe", "jsonl"])
def test_a_batch_file_needs_its_suffix(filename: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        MultipartUpload(_request(_field("purpose", "batch") + _file(b"x", filename=filename) + END))
    assert refusal.value.param == "file"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"--", END, b"\xff" * 3000])
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        MultipartUpload(_request(body))


def test_a_header_without_end_is_refused_in_bounded_memory() -> None:
    with pytest.raises(InvalidRequest):
        MultipartUpload(_request(b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: " + b"x" * 3_000_000))
