"""The operators' port over real rows and real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from metric_names import made_metrics
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, text

from app.db.session import Database
from app.db.tables import chunks, result_parts
from app.domain.jobs import Dialect, JobRequest
from app.metrics_server import MetricsServer, metrics_registry, start_metrics_server
from app.services.submit_job import submit_job
from app.wiring import Wiring
from app.work_metrics import WorkCollector
from workers.dispatcher import Leadership

SERVICES = ("postgres", "object_store", "broker", "redis")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _scrape(port: int) -> Samples:
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).raise_for_status().text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer)
        for sample in family.samples
    }


def _scrape_when_up(port: int) -> Samples:
    for _ in range(100):
        try:
            return _scrape(port)
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError(f"nothing serves metrics on port {port}")


@pytest.fixture
def scrape(wiring: Wiring, tmp_path: Path) -> Callable[[], Samples]:
    """Read the metrics anew: each call has a server without a cache."""

    def read() -> Samples:
        port = _free_port()
        settings = replace(wiring.settings, metrics_bind=f"127.0.0.1:{port}", metrics_dir=tmp_path)
        with closing(start_metrics_server(replace(wiring, settings=settings))):
            return _scrape_when_up(port)

    return read


def _plan_by_hand(wiring: Wiring, tenant_id: str, pool: str) -> str:
    """A queued job with one chunk of each kind in a pool of its own: waiting, and done after 3 s with one failure."""
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", inputs=("a", "b"))
    job = submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job
    with wiring.database.begin() as connection:
        connection.execute(
            text(
                "UPDATE jobs SET state = 'running', pool = :pool, created_at = now() - interval '50 seconds',"
                " started_at = now() - interval '40 seconds' WHERE id = :id"
            ),
            {"pool": pool, "id": job.id},
        )
        common = {"tenant_id": tenant_id, "job_id": job.id, "estimated_tokens": 1, "estimated_s": 1}
        waiting = {"ordinal": 0, "state": "pending", "byte_start": 0, "byte_end": 1, "first_index": 0, "n_items": 7}
        done = {"ordinal": 1, "state": "done", "byte_start": 1, "byte_end": 2, "first_index": 7, "n_items": 5}
        connection.execute(chunks.insert().values(**common, **waiting))
        three_s_ago = func.now() - timedelta(seconds=3)
        failed = {"n_succeeded": 4, "n_failed": 1, "errors_by_code": {"item_timeout": 1}}
        moments = {"queue": f"{pool}.0", "claimed_at": three_s_ago, "finished_at": func.now()}
        connection.execute(chunks.insert().values(**common, **done, **failed, **moments))
        for outcome, n in (("succeeded", 4), ("failed", 1)):
            part = {"seq": n, "outcome": outcome, "object_key": f"parts/{job.id}/{outcome}", "n_items": n}
            row = {"tenant_id": tenant_id, "job_id": job.id, "size_bytes": 1, "sha256": "", **part}
            connection.execute(result_parts.insert().values(row))
    return job.id


def test_work_is_counted_from_the_rows(wiring: Wiring, tenant_id: str, scrape: Callable[[], Samples]) -> None:
    pool = f"pool{time.monotonic_ns()}"
    before = scrape()
    _plan_by_hand(wiring, tenant_id, pool)
    after = scrape()
    place = (("pool", pool), ("priority", "standard"))
    assert after["nightshift_queue_chunks", place] == 1
    assert after["nightshift_queue_items", place] == 7
    assert 50 <= after["nightshift_queue_oldest_age_seconds", place] < 60
    assert after["nightshift_chunk_duration_seconds_bucket", (("le", "5.0"), ("pool", pool))] == 1
    assert after["nightshift_chunk_duration_seconds_bucket", (("le", "2.0"), ("pool", pool))] == 0
    assert after["nightshift_chunk_duration_seconds_sum", (("pool", pool),)] == pytest.approx(3, abs=0.1)

    def grew(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grew("nightshift_items_total", outcome="succeeded", code="") == 4
    assert grew("nightshift_items_total", outcome="failed", code="item_timeout") == 1
    assert grew("nightshift_wait_seconds_count", priority="standard") == 1
    assert grew("nightshift_wait_seconds_sum", priority="standard") == pytest.approx(10, abs=0.1)


def test_a_scrape_shows_exactly_the_metrics_that_the_code_makes(wiring: Wiring, tmp_path: Path) -> None:
    port = _free_port()
    own = replace(wiring, settings=replace(wiring.settings, metrics_bind=f"127.0.0.1:{port}", metrics_dir=tmp_path))
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    code = (
        "from app.metrics import RATE_LIMITED, RATES_IN_MEMORY, observe_request\n"
        "observe_request(method='GET', route='/', status=200, duration_s=0.02)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, timeout=30)
    with closing(start_metrics_server(own)):
        _scrape_when_up(port)
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    shown = [(family.name, family.type) for family in text_string_to_metric_families(answer)]
    made = [(metric.name, metric.type) for metric in made_metrics().values()]
    ours = [found for found in shown if not found[0].endswith("_created")]
    assert sorted(ours) == sorted(made)


def test_tokens_times_and_windows_are_counted_from_the_rows(
    wiring: Wiring, tenant_id: str, scrape: Callable[[], Samples]
) -> None:
    before = scrape()
    pool = f"pool{time.monotonic_ns()}"
    job_id = _plan_by_hand(wiring, tenant_id, pool)
    with wiring.database.begin() as connection:
        connection.execute(
            text(
                "UPDATE chunks SET input_tokens = 11, output_tokens = 7, device_s = 1.5, attempt = 3"
                " WHERE job_id = :id AND state = 'done'"
            ),
            {"id": job_id},
        )
        connection.execute(
            text("UPDATE jobs SET state = 'succeeded', finished_at = now() - interval '1 second' WHERE id = :id"),
            {"id": job_id},
        )
    after = scrape()

    def grew(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grew("nightshift_tokens_total", model="echo", direction="input") == 11
    assert grew("nightshift_tokens_total", model="echo", direction="output") == 7
    assert grew("nightshift_device_seconds_total", pool=pool) == 1.5
    assert grew("nightshift_chunk_retries_total", pool=pool) == 2
    assert grew("nightshift_job_seconds_count", priority="standard") == 1
    assert grew("nightshift_job_seconds_sum", priority="standard") == pytest.approx(49, abs=0.5)
    assert grew("nightshift_job_run_seconds_sum", priority="standard") == pytest.approx(39, abs=0.5)
    assert grew("nightshift_jobs_ended_total", priority="standard", window="kept") == 1


def test_a_job_that_is_retried_takes_nothing_from_the_counters(wiring: Wiring, tenant_id: str) -> None:
    collector = WorkCollector(wiring.database)
    job_id = _plan_by_hand(wiring, tenant_id, f"pool{time.monotonic_ns()}")

    def ended(state: str, *, ago_s: int | None) -> float:
        statement = text(
            "UPDATE jobs SET state = :state, finished_at = now() - make_interval(secs => :ago_s) WHERE id = :id"
        )
        with wiring.database.begin() as connection:
            connection.execute(statement, {"state": state, "ago_s": ago_s, "id": job_id})
        collector.forget()
        samples = [sample for metric in collector.collect() for sample in metric.samples]
        return sum(sample.value for sample in samples if sample.name == "nightshift_job_seconds_count")

    n_ended = ended("succeeded", ago_s=0)
    assert ended("queued", ago_s=None) == n_ended


def test_who_leads_is_known_to_every_process(wiring: Wiring, scrape: Callable[[], Samples]) -> None:
    assert scrape()["nightshift_dispatcher_leaders", ()] == 0
    leadership = Leadership(wiring.settings.database_url, connect_timeout_s=5)
    with closing(leadership):
        assert leadership.acquire()
        found = scrape()
        assert found["nightshift_dispatcher_leaders", ()] == 1
        assert 0 <= found["nightshift_dispatcher_lag_seconds", ()] < 30
    assert ("nightshift_dispatcher_lag_seconds", ()) not in scrape()


def test_backing_services_and_stuck_work_are_told(
    wiring: Wiring, tenant_id: str, scrape: Callable[[], Samples]
) -> None:
    job_id = _plan_by_hand(wiring, tenant_id, f"pool{time.monotonic_ns()}")
    before = scrape()
    assert {before["nightshift_backing_service_up", (("service", name),)] for name in SERVICES} == {1.0}
    with wiring.database.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET deadline_at = now() - interval '2 minutes' WHERE id = :id"), {"id": job_id}
        )
    late = ("nightshift_stuck", (("what", "jobs_past_their_deadline"),))
    assert scrape()[late] == before[late] + 1
    with wiring.database.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET state = 'expired', finished_at = now() WHERE id = :id"), {"id": job_id}
        )


def test_a_backing_service_that_is_down_is_told(wiring: Wiring, tmp_path: Path) -> None:
    port = _free_port()
    changes = {"metrics_bind": f"127.0.0.1:{port}", "metrics_dir": tmp_path, "redis_url": "redis://127.0.0.1:1/0"}
    with closing(start_metrics_server(replace(wiring, settings=replace(wiring.settings, **changes)))):
        found = _scrape_when_up(port)
    up = {name: found["nightshift_backing_service_up", (("service", name),)] for name in SERVICES}
    assert up == {"postgres": 1, "object_store": 1, "broker": 1, "redis": 0}


def test_requests_of_several_processes_add_up(wiring: Wiring, tmp_path: Path) -> None:
    code = (
        "from app.metrics import observe_request\n"
        "for status in (200, 200, 404):\n"
        "    observe_request(method='GET', route='/v1/jobs/<id>', status=status, duration_s=0.02)\n"
    )
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], check=True, env=environ, timeout=30)
    port = _free_port()
    server = MetricsServer(metrics_registry(wiring.database, tmp_path), host="127.0.0.1", port=port)
    server.start()
    with closing(server):
        found = _scrape_when_up(port)
    labels = (("method", "GET"), ("route", "/v1/jobs/<id>"))
    assert found["nightshift_requests_total", (*labels, ("status", "200"))] == 4
    assert found["nightshift_requests_total", (*labels, ("status", "404"))] == 2
    assert found["nightshift_request_duration_seconds_count", labels] == 6


def test_a_standby_takes_the_address_over(wiring: Wiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.metrics_server.TAKE_OVER_S", 0.1)
    port = _free_port()
    settings = replace(wiring.settings, metrics_bind=f"127.0.0.1:{port}", metrics_dir=tmp_path)
    own = replace(wiring, settings=settings)
    leader = start_metrics_server(own)
    _scrape_when_up(port)
    with closing(start_metrics_server(own)):
        leader.close()
        assert _scrape_when_up(port)["nightshift_database_up", ()] == 1


def test_a_scrape_without_a_database_says_just_that() -> None:
    database = Database.connect("postgresql+psycopg2://nobody@127.0.0.1:1/none", connect_timeout_s=1)
    (only,) = WorkCollector(database).collect()
    assert [(sample.name, sample.value) for sample in only.samples] == [("nightshift_database_up", 0.0)]


def test_the_idle_share_of_a_device_counts_the_time_in_which_its_queue_had_work(
    wiring: Wiring, tenant_id: str, scrape: Callable[[], Samples]
) -> None:
    queue = f"cpu.{int(time.time()) % 900 + 100}"
    request = JobRequest(dialect=Dialect.NATIVE, endpoint="/v1/echo", model="echo", inputs=("x",))
    job_id = submit_job(wiring=wiring, tenant_id=tenant_id, request=request).job.id
    with wiring.database.begin() as connection:
        for ordinal, (begins_s, ends_s, device_s) in enumerate([(60, 50, 8.0), (55, 40, 8.0), (30, 20, 7.0)]):
            connection.execute(
                chunks.insert().values(
                    tenant_id=tenant_id,
                    job_id=job_id,
                    ordinal=ordinal,
                    state="done",
                    byte_start=0,
                    byte_end=1,
                    first_index=0,
                    n_items=1,
                    n_succeeded=1,
                    estimated_tokens=1,
                    estimated_s=1.0,
                    queue=queue,
                    device_s=device_s,
                    granted_at=func.now() - timedelta(seconds=begins_s),
                    finished_at=func.now() - timedelta(seconds=ends_s),
                )
            )

    # It had work from 60 to 40 and from 30 to 20 seconds ago, and computed for 23 of these 30 seconds.
    assert scrape()["nightshift_device_idle_ratio", (("queue", queue),)] == pytest.approx(1 - 23 / 30, abs=0.01)
