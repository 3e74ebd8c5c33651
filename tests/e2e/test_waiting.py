"""On the whole stack: why a job waits, when it ends, what its window does, and what happens when it is changed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from running_stack import RunningStack

Job = dict[str, Any]
ENDED = {"succeeded", "partially_succeeded", "failed", "expired", "cancelled"}
PATIENCE_S = 60
SLOTS = 4
"""Two workers, each with one chunk running and one behind it."""


class Tenant:
    """A tenant that nobody else uses."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self.name = f"waits-{uuid4().hex[:12]}"
        self._client = stack.client(stack.new_key(self.name))

    def submit(self, *, n_items: int = 1, delay_s: float = 0.0, **fields: Any) -> str:
        inputs = [{"body": {"input": f"{number}", "echo": {"delay_s": delay_s}}} for number in range(n_items)]
        return self.post({"inputs": inputs, **fields})

    def post(self, fields: dict[str, Any]) -> str:
        answer = self._client.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", **fields})
        return str(answer.raise_for_status().json()["id"])

    def job(self, job_id: str) -> Job:
        found: Job = self._client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        return found

    def steer(self, job_id: str, verb: str) -> None:
        self._client.post(f"/v1/jobs/{job_id}/{verb}").raise_for_status()

    def patch(self, job_id: str, **changes: Any) -> Job:
        changed: Job = self._client.patch(f"/v1/jobs/{job_id}", json=changes).raise_for_status().json()
        return changed

    def limit(self, **quotas: int) -> None:
        with self._stack.client(self._stack.admin_key) as client:
            client.patch(f"/v1/admin/tenants/{self.name}", json=quotas).raise_for_status()

    def when(self, job_id: str, holds: Callable[[Job], bool], what: str, *, timeout_s: float = PATIENCE_S) -> Job:
        """Look until it holds; gives the job as it was then."""
        seen: list[Job] = []

        def look() -> bool:
            seen.append(self.job(job_id))
            return holds(seen[-1])

        self._stack.wait_until(look, timeout_s=timeout_s, what=what)
        return seen[-1]

    def waits_for(self, job_id: str, reason: str) -> Job:
        return self.when(job_id, lambda job: (job["waiting"] or {}).get("reason") == reason, f"waiting for {reason}")

    def ends(self, job_id: str) -> Job:
        return self.when(job_id, lambda job: job["state"] in ENDED, "the end", timeout_s=90)

    def leave(self) -> None:
        self._client.close()


@pytest.fixture
def tenant(stack: RunningStack) -> Iterator[Tenant]:
    made = Tenant(stack)
    yield made
    made.leave()


@pytest.fixture
def busy(stack: RunningStack) -> Iterator[Tenant]:
    """Another tenant, whose urgent jobs keep all workers busy for some seconds."""
    other = Tenant(stack)
    job_ids = [other.submit(delay_s=4.0, priority="urgent") for _ in range(SLOTS)]
    for job_id in job_ids:
        other.when(job_id, lambda job: job["state"] != "validating", "planned")
    other.when(job_ids[0], lambda job: job["counts"]["running"] == 1, "running")
    yield other
    for job_id in job_ids:
        other.ends(job_id)
    other.leave()


@pytest.mark.usefixtures("busy")
def test_a_job_behind_others_tells_its_place_and_its_end(tenant: Tenant) -> None:
    first, second = tenant.submit(delay_s=0.5), tenant.submit(delay_s=0.5)
    shown = tenant.when(second, lambda job: (job["waiting"] or {}).get("position") is not None, "a place")
    assert shown["waiting"]["reason"] == "behind_other_work"
    assert "2 workers can run it, and its turn comes in about" in shown["waiting"]["detail"]
    assert shown["eta"]["low"] <= shown["eta"]["seconds"] <= shown["eta"]["high"]
    before = tenant.job(first)["waiting"] or {}
    assert (before.get("position") or 0) < shown["waiting"]["position"], "one that is with a worker has no place"
    assert tenant.ends(second)["waiting"] is None


@pytest.mark.parametrize(
    ("quota", "reason"),
    [
        ("max_running_jobs", "tenant_concurrency"),
        ("max_chunks", "tenant_concurrency"),
        ("max_enqueued_tokens", "tenant_tokens"),
    ],
)
def test_a_job_over_a_quota_of_its_tenant_names_it_and_runs_when_there_is_room(
    tenant: Tenant, quota: str, reason: str
) -> None:
    tenant.limit(**{quota: 1})
    first, second = tenant.submit(delay_s=4.0), tenant.submit()
    waits = tenant.waits_for(second, reason)
    assert f"its quota {quota} allows" in waits["waiting"]["detail"]
    assert tenant.job(first)["state"] not in ENDED
    assert tenant.ends(second)["state"] == "succeeded"


def test_a_job_that_failed_for_now_says_when_it_is_tried_again(tenant: Tenant) -> None:
    body = {"input": "x", "echo": {"fail": "rate_limited", "fail_times": 2}}
    job_id = tenant.post({"inputs": [{"body": body}]})
    waits = tenant.waits_for(job_id, "retry_backoff")
    assert "it is tried again at 20" in waits["waiting"]["detail"]
    assert tenant.ends(job_id)["state"] == "succeeded"


def test_a_paused_job_says_so(tenant: Tenant) -> None:
    job_id = tenant.submit(delay_s=0.2)
    tenant.steer(job_id, "pause")
    assert tenant.waits_for(job_id, "paused")["eta"] is None
    tenant.steer(job_id, "resume")
    assert tenant.ends(job_id)["state"] == "succeeded"


@contextmanager
def workers_stopped(stack: RunningStack) -> Iterator[None]:
    supervisor = stack.stack._supervisor()
    names = stack.settings["NIGHTSHIFT_QUEUES"].split(",")
    supervisor.stop_programs(names, timeout_s=40)
    try:
        yield
    finally:
        for name in names:
            supervisor.start_program(name)


def test_without_workers_of_its_pool_a_job_waits_and_does_not_fail(stack: RunningStack, tenant: Tenant) -> None:
    with workers_stopped(stack):
        job_id = tenant.submit()
        waits = tenant.waits_for(job_id, "no_worker_for_model")
        assert "No worker that can run model echo takes work now" in waits["waiting"]["detail"]
        assert waits["eta"] is None
    assert tenant.ends(job_id)["state"] == "succeeded"


@contextmanager
def broker_stopped(stack: RunningStack) -> Iterator[None]:
    command, environment = stack.rabbitmqctl()
    subprocess.run([*command, "stop_app"], env=environment, check=True, capture_output=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run([*command, "start_app"], env=environment, check=True, capture_output=True, timeout=60)


def test_with_the_broker_down_a_job_is_accepted_and_says_that_this_is_why_it_waits(
    stack: RunningStack, tenant: Tenant
) -> None:
    with broker_stopped(stack):
        job_id = tenant.submit()
        waits = tenant.waits_for(job_id, "broker_unavailable")
        assert "The message broker takes no work" in waits["waiting"]["detail"]
        assert tenant.job(job_id)["state"] == "validating"
    assert tenant.ends(job_id)["state"] == "succeeded"


def test_most_of_a_window_makes_a_job_urgent_that_asked_for_it_and_its_end_expires_every_job(tenant: Tenant) -> None:
    fields = {"completion_window": "60s", "priority": "background"}
    expires, escalates = (tenant.submit(on_deadline=action, **fields) for action in ("expire", "escalate"))
    for job_id in (expires, escalates):
        tenant.steer(job_id, "pause")
    urgent = tenant.when(escalates, lambda job: job["priority"] == "urgent", "urgent", timeout_s=70)
    assert urgent["state"] == "paused"
    assert tenant.job(expires)["priority"] == "background"
    for job_id in (expires, escalates):
        ended = tenant.ends(job_id)
        assert (ended["state"], ended["counts"]["expired"]) == ("expired", 1)


@pytest.mark.usefixtures("busy")
def test_a_changed_priority_holds_from_the_next_decision_on(tenant: Tenant) -> None:
    jobs = [tenant.submit(delay_s=1.5, priority="background") for _ in range(3 * SLOTS)]
    last = jobs[-1]
    tenant.when(last, lambda job: ((job["waiting"] or {}).get("position") or 0) > 1, "a place behind others")
    changed = tenant.patch(last, priority="urgent", completion_window="1h", metadata={"why": "now"})
    assert (changed["priority"], changed["metadata"]) == ("urgent", {"why": "now"})
    last_ended = tenant.ends(last)["finished_at"]
    others = [tenant.ends(job_id)["finished_at"] for job_id in jobs[:-1]]
    assert sum(last_ended < ended for ended in others) >= 2


def test_the_end_of_a_real_job_is_foretold_within_a_factor_of_two_once_its_rate_is_known(tenant: Tenant) -> None:
    """Items as long as to be cut into a dozen chunks of some seconds each, on two workers."""
    text = "x" * 20_000
    inputs = [{"body": {"input": f"{number} {text}", "echo": {"delay_s": 0.1}}} for number in range(480)]
    job_id = tenant.post({"inputs": inputs})
    tenant.when(job_id, lambda job: job["counts"]["succeeded"] > 0, "the first chunk")
    time.sleep(2.5)  # the outlook is taken every second, and read at most once a second
    foretold: list[tuple[float, float]] = []
    while (job := tenant.job(job_id))["state"] not in ENDED:
        if job["eta"] is not None:
            foretold.append((time.monotonic(), job["eta"]["seconds"]))
        time.sleep(0.5)
    ended_s = time.monotonic()
    told_early = [(ended_s - at_s, seconds) for at_s, seconds in foretold if ended_s - at_s > 3]
    assert len(told_early) >= 5
    wrong = [pair for pair in told_early if not 0.5 < pair[1] / pair[0] < 2]
    # A machine whose load changes changes its rate: one look in ten may be off.
    assert len(wrong) <= len(told_early) / 10, told_early


@pytest.mark.usefixtures("busy")
def test_stats_and_metrics_tell_what_waits(stack: RunningStack, tenant: Tenant) -> None:
    job_ids = [tenant.submit(delay_s=2.0, priority="background") for _ in range(6)]
    with stack.client() as client:

        def waits() -> bool:
            stats = client.get("/v1/stats").raise_for_status().json()
            depth = {(queue["pool"], queue["priority"]): queue["jobs"] for queue in stats["queues"]}
            pools = {pool["pool"]: pool for pool in stats["pools"]}
            return depth.get(("cpu", "background"), 0) >= 1 and pools["cpu"]["workers"] == 2

        stack.wait_until(waits, timeout_s=20, what="the queue in /v1/stats")
    metrics = httpx.get(stack.env["NIGHTSHIFT_METRICS_URL"], timeout=30).text
    assert 'nightshift_queue_deep{pool="cpu"} 0.0' in metrics
    assert 'nightshift_live_workers{pool="cpu"} 2.0' in metrics
    for job_id in job_ids:
        tenant.ends(job_id)
