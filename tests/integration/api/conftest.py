"""The API in this process, over the real servers, as tenants see it."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from flask import Flask
from tenant_api import Api

from app.factory import create_app
from app.services.create_api_key import create_api_key
from app.wiring import Wiring


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
