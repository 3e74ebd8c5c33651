"""Two processes die at the same moment, or a server dies under a flood: ``make chaos``."""

from __future__ import annotations

import time

import httpx
import pytest
from fault_lab import FaultLab

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(480)]
N_TINY = 1000
KILLED_AT = (150, 600)
TINY_END_WITHIN_S = 240


@pytest.mark.parametrize(
    "pair",
    [
        ("cpu.0", "dispatcher"),
        ("cpu.0", "cpu.1"),
        ("control", "postgres"),
        ("postgres", "rabbitmq"),
        ("cpu.0", "s3"),
    ],
    ids="+".join,
)
def test_two_killed(lab: FaultLab, pair: tuple[str, str]) -> None:
    with lab.fault(
        2,
        f"{pair[0]} and {pair[1]} die at the same moment",
        injected="`kill -9` of both under load",
        happens="each is started again and finds its work by the rows",
        within_s=30.0,
    ) as fault:
        lab.load(fault)
        pids = {name: lab.stack.kill(name) for name in pair}
        fault.is_over()
        for name, pid in pids.items():
            lab.stack.wait_for_new_pid(name, pid)


def test_flood_over_a_dying_broker(lab: FaultLab) -> None:
    with lab.fault(
        7,
        f"RabbitMQ dies twice while {N_TINY:,} jobs of one item come in",
        injected="`kill -9` after 150 and after 600 submits, each with an Idempotency-Key and retries",
        happens="every job is accepted and ends once",
        within_s=30.0,
    ) as fault:
        ids = []
        with lab.stack.client() as client:
            for number in range(N_TINY):
                if number in KILLED_AT:
                    lab.stack.kill("rabbitmq")
                ids.append(_submit(client, number))
        assert len(set(ids)) == N_TINY
        ended = "SELECT count(*) AS n FROM jobs WHERE id = ANY(:ids) AND state = 'succeeded'"
        lab.stack.wait_until(
            lambda: lab.rig.sql(ended, ids=ids)[0]["n"] == N_TINY, timeout_s=TINY_END_WITHIN_S, what="every tiny job"
        )
        fault.is_over()


def _submit(client: httpx.Client, number: int) -> str:
    """Submit as a client does that comes back when it is told to."""
    request = {"endpoint": "/v1/echo", "model": "echo", "input": f"tiny {number}"}
    while True:
        answer = client.post("/v1/jobs", json=request, headers={"Idempotency-Key": f"flood-{number}"})
        if answer.status_code not in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
            return str(answer.raise_for_status().json()["id"])
        time.sleep(0.3)
