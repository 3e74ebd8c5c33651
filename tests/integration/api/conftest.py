"""The API in this process, over the real servers, as tenants see it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from app.factory import create_app
from app.services.create_api_key import create_api_key
from app.wiring import Wiring


@dataclass(frozen=True)
class Api:
    """One tenant's view of the API."""

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

    def delete(self, path: str) -> TestResponse:
        return self.call("DELETE", path)

    def upload(self, content: bytes, *, filename: str = "in.jsonl", **fields: str) -> TestResponse:
        file = FileStorage(io.BytesIO(content), filename)
        boundary, body = encode_multipart({"purpose": "batch", **fields, "file": file})
        return self.post("/v1/files", data=body, content_type=f"multipart/form-data; boundary={boundary}")


@pytest.fixture(scope="session")
def app(wiring: Wiring) -> Flask:
    """The application."""
    return create_app(wiring)


@pytest.fixture
def make_api(app: Flask, wiring: Wiring) -> Callable[[], Api]:
    """Make a tenant with a key."""

    def make() -> Api:
        issued = create_api_key(wiring=wiring, tenant=f"test-{uuid4().hex}")
        return Api(app.test_client(), issued.key, issued.key_id)

    return make


@pytest.fixture
def api(make_api: Callable[[], Api]) -> Api:
    """A tenant that nobody else uses."""
    return make_api()


@pytest.fixture
def other(make_api: Callable[[], Api]) -> Api:
    """Another one."""
    return make_api()


@pytest.fixture
def admin(app: Flask, wiring: Wiring) -> Api:
    """The administrator."""
    return Api(app.test_client(), wiring.settings.admin_key, "admin")
