"""Postgres goes, falls silent, or loses its answers: ``make chaos``."""

from __future__ import annotations

import time

import httpx
import pytest
from fault_lab import KILL_WITHIN_S, OUTAGE_S, FaultLab

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]


def test_backends_terminated(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "every database session is ended",
        injected="`pg_terminate_backend` of all, five times",
        happens="pools connect again, commits are tried again after reading",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        for _ in range(5):
            lab.rig.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            time.sleep(0.3)
        fault.is_over()


def test_answers_of_commits_lost(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "the answers of commits are lost",
        injected="the proxy holds Postgres's answers for 0.5 s, then cuts; five times",
        happens="whether a commit took place is read before it is tried again",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        proxy = lab.stack.proxies["postgres"]
        for _ in range(5):
            proxy.hold_answers()
            time.sleep(0.5)
            proxy.cut()
            proxy.heal()
            time.sleep(0.5)
        fault.is_over()


def test_database_away(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "Postgres is away for 5 s",
        injected="the proxy refuses",
        happens="the API answers 503 with Retry-After; what workers computed is committed when it is back",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        lab.stack.proxies["postgres"].refuse()
        with lab.stack.client() as client:
            answer = client.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", "inputs": []})
        time.sleep(OUTAGE_S)
        lab.stack.proxies["postgres"].heal()
        fault.is_over()
    assert (answer.status_code, "Retry-After" in answer.headers) == (httpx.codes.SERVICE_UNAVAILABLE, True)


def test_database_silent(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "Postgres falls silent for 10 s",
        injected="the proxy passes nothing on",
        happens="everybody waits and goes on",
        within_s=20.0,
    ) as fault:
        lab.load(fault)
        lab.stack.proxies["postgres"].black_hole()
        time.sleep(10)
        lab.stack.proxies["postgres"].heal()
        fault.is_over()
