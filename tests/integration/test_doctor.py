"""The doctor over real servers, and over servers that are down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, update

from app.db.tables import jobs
from app.domain.jobs import Dialect, JobRequest
from app.installation.checks import Check
from app.services.apply_topology import apply_topology
from app.services.check_installation import ask_installation, check_installation
from app.services.submit_job import submit_job
from app.wiring import Wiring
from config.settings import Settings

Examine = Callable[..., dict[str, Check]]


@pytest.fixture
def examine(wiring: Wiring) -> Examine:
    """Run every check with some settings changed; checks by name."""
    apply_topology(settings=wiring.settings)

    def run(**changes: object) -> dict[str, Check]:
        settings: Settings = replace(wiring.settings, **changes)  # type: ignore[arg-type]
        return {check.name: check for check in check_installation(settings=settings)}

    return run


def test_servers_that_are_well_are_found_well(examine: Examine, wiring: Wiring) -> None:
    found = examine()
    well = ["postgres", "migrations", "object store", "redis", "disk"]
    assert {name: found[name].state for name in well} == dict.fromkeys(well, "ok")
    if not wiring.settings.broker_is_redis:
        assert found["broker"].state == found["topology"].state == "ok"


def test_queues_without_workers_are_named_with_what_to_do(examine: Examine) -> None:
    found = examine(queues=("lonely.7",))
    assert found["workers"].state == "failed"
    assert "lonely.7" in found["workers"].found
    assert found["workers"].advice is not None


def test_a_queue_that_was_never_declared_is_named(examine: Examine, wiring: Wiring) -> None:
    if wiring.settings.broker_is_redis:
        pytest.skip("Redis needs no topology")
    topology = examine(queues=("lonely.8",))["topology"]
    assert (topology.state, topology.advice) == ("failed", "run `nightshift topology`")
    assert "lonely.8" in topology.found


def test_a_service_that_is_down_does_not_stop_the_other_checks(examine: Examine) -> None:
    found = examine(
        database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1/0",
        s3_endpoint="http://127.0.0.1:1",
        broker_url="amqp://nobody:x@127.0.0.1:1//",
        connect_timeout_s=0.5,
    )
    down = ["postgres", "redis", "object store", "broker"]
    assert {name: found[name].state for name in down} == dict.fromkeys(down, "failed")
    assert all(found[name].advice for name in down)
    assert "migrations" not in found


def test_redis_in_place_of_rabbitmq_works_but_is_said(examine: Examine, wiring: Wiring) -> None:
    found = examine(broker_url=wiring.settings.redis_url, broker_api_url="")
    assert found["broker"].state == "warning"
    assert "topology" not in found


def test_a_job_that_outlived_its_deadline_is_stuck_work(examine: Examine, wiring: Wiring, tenant_id: str) -> None:
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", inputs=("hello",))
    job = submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job
    late = update(jobs).where(jobs.c.id == job.id)
    with wiring.database.begin() as connection:
        connection.execute(late.values(deadline_at=func.now() - timedelta(hours=1)))
    stuck = examine()["stuck work"]
    with wiring.database.begin() as connection:
        connection.execute(late.values(deadline_at=func.now() + timedelta(hours=1)))
    assert stuck.state == "failed"
    assert "past their deadline" in stuck.found


def test_a_models_file_that_cannot_be_read_is_named(examine: Examine, tmp_path: Path) -> None:
    configuration = examine(models_file=tmp_path / "nowhere.yaml")["configuration"]
    assert configuration.state == "failed"
    assert "nowhere.yaml" in configuration.found


def test_from_afar_an_api_that_does_not_answer_is_named() -> None:
    (api,) = ask_installation(url="http://127.0.0.1:1")
    assert (api.name, api.state) == ("api", "failed")
