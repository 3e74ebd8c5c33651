"""A backing server dies in the middle of a job and comes back: the job goes on by itself."""

from __future__ import annotations

import signal

import pytest
from chaos_rig import ChaosRig
from seeded_work import good, mixed

WAVES = [*(good(f"wave-{number}", delay_s=0.05) for number in range(30)), *mixed(20, seed=12)]


@pytest.mark.parametrize("server", ["postgres", "redis", "rabbitmq", "s3"])
def test_a_server_that_dies_is_started_again_and_the_job_goes_on(rig: ChaosRig, server: str) -> None:
    job_id = rig.submit(WAVES, chunks="many")
    rig.wait_until_running(job_id)
    pid = rig.stack.kill(server)
    rig.stack.wait_for_new_pid(server, pid)
    rig.stack.wait_until_ready()
    rig.check(job_id, WAVES)


def test_a_job_is_accepted_and_ends_while_redis_does_not_answer(rig: ChaosRig) -> None:
    rig.stack.kill("redis", signal.SIGSTOP)
    try:
        job_id = rig.submit(WAVES, chunks="many")
        rig.check(job_id, WAVES)
    finally:
        rig.stack.kill("redis", signal.SIGCONT)
