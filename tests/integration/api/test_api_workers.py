"""``/v1/admin/workers`` over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import delete
from tenant_api import Api

from app.db.tables import drains
from app.services.register_worker import register_worker, unregister_worker
from app.wiring import Wiring


@pytest.fixture
def queue(wiring: Wiring) -> Iterator[str]:
    """A worker of a pool that nobody else uses."""
    name = f"test{uuid4().hex[:12]}.7"
    register_worker(
        database=wiring.database, queue=name, host="here", incarnation="one", warm_models=("echo",), silence_s=20.0
    )
    yield name
    unregister_worker(database=wiring.database, queue=name, incarnation="one")
    with wiring.database.begin() as connection:
        connection.execute(delete(drains).where(drains.c.queue == name))


def test_the_administrator_lists_drains_and_undrains_workers(admin: Api, queue: str) -> None:
    (listed,) = [worker for worker in admin.get("/v1/admin/workers").json["data"] if worker["queue"] == queue]
    assert {name: listed[name] for name in ("pool", "state", "host", "running", "n_waiting", "drained_at")} == {
        "pool": queue.partition(".")[0],
        "state": "live",
        "host": "here",
        "running": None,
        "n_waiting": 0,
        "drained_at": None,
    }
    assert listed["warm_models"] == ["echo"]
    assert listed["age_s"] >= 0
    drained = admin.post(f"/v1/admin/workers/{queue}/drain")
    assert (drained.status_code, drained.json["state"]) == (200, "drained")
    assert drained.json["drained_at"].endswith("Z")
    undrained = admin.post(f"/v1/admin/workers/{queue}/undrain")
    assert (undrained.status_code, undrained.json["state"]) == (200, "live")


@pytest.mark.parametrize("name", ["nope.0", "nope", "%00", "a%2Fb", "é.0"])
@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_a_worker_that_is_not_there_is_404(admin: Api, name: str, verb: str) -> None:
    refused = admin.post(f"/v1/admin/workers/{name}/{verb}")
    assert (refused.status_code, refused.json["error"]["code"]) == (404, "not_found")


def test_a_tenant_may_not_drain_workers(api: Api, queue: str) -> None:
    assert api.post(f"/v1/admin/workers/{queue}/drain").status_code == 401
    assert api.get("/v1/admin/workers").status_code == 401


def test_a_worker_hears_that_it_is_drained_with_its_next_heartbeat(admin: Api, wiring: Wiring, queue: str) -> None:
    def beat() -> bool:
        return register_worker(
            database=wiring.database, queue=queue, host="here", incarnation="one", warm_models=("echo",), silence_s=20.0
        )

    assert beat() is False
    admin.post(f"/v1/admin/workers/{queue}/drain")
    assert beat() is True
