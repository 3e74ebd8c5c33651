"""One tenant's view of the API in this process."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart


@dataclass(frozen=True)
class Api:
    """Sends a tenant's key with every request."""

    client: FlaskClient
    key: str
    key_id: str

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **kwargs: Any) -> TestResponse:
        return self.client.open(
            path, method=method, headers={"Authorization": f"Bearer {self.key}", **(headers or {})}, **kwargs
        )

    def get(self, path: str, **kwargs: Any) -> TestResponse:
        return self.call("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> TestResponse:
        return self.call("POST", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> TestResponse:
        return self.call("PATCH", path, **kwargs)

    def delete(self, path: str) -> TestResponse:
        return self.call("DELETE", path)

    def upload(self, content: bytes, *, filename: str = "in.jsonl", **fields: str) -> TestResponse:
        file = FileStorage(io.BytesIO(content), filename)
        boundary, body = encode_multipart({"purpose": "batch", **fields, "file": file})
        return self.post("/v1/files", data=body, content_type=f"multipart/form-data; boundary={boundary}")
