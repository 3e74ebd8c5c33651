"""The wiring of the real servers, and tenants that share nothing."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from app.db.repositories.files import Files
from app.db.repositories.tenants import Tenants
from app.domain.files import BATCH_PURPOSE
from app.domain.ids import new_id
from app.wiring import Wiring, build_wiring
from config.settings import Settings


@pytest.fixture(scope="session")
def wiring(servers: dict[str, str]) -> Iterator[Wiring]:
    """The collaborators of a process, over servers that were migrated."""
    made = build_wiring(Settings.from_environ(servers))
    yield made
    made.database.close()


def _new_tenant(wiring: Wiring) -> str:
    with wiring.database.begin() as connection:
        return Tenants(connection).id_of(f"test-{uuid4().hex}")


@pytest.fixture
def tenant_id(wiring: Wiring) -> str:
    """A tenant that nobody else uses."""
    return _new_tenant(wiring)


@pytest.fixture
def other_tenant_id(wiring: Wiring) -> str:
    """Another one."""
    return _new_tenant(wiring)


@pytest.fixture
def add_file(wiring: Wiring, tenant_id: str) -> Callable[[], str]:
    """Store a batch file of one line for the tenant; gives its id."""

    def add(content: bytes = b'{"custom_id": "a", "body": {"input": "hello"}}\n') -> str:
        key = f"files/{tenant_id}/{uuid4().hex}"
        stored = wiring.storage.put(key, io.BytesIO(content), size_bytes=len(content))
        with wiring.database.begin() as connection:
            file = Files(connection).add(
                file_id=new_id("file-"),
                tenant_id=tenant_id,
                purpose=BATCH_PURPOSE,
                filename="input.jsonl",
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                object_key=stored.key,
                expires_after_s=3600,
            )
        return file.id

    return add
