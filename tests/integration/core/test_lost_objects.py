"""Somebody deletes objects by hand under a live job: it ends all the same, and says what is gone."""

from __future__ import annotations

from core_machine import CoreMachine
from seeded_work import good

from app.domain.states import JobState


def lose_input(core: CoreMachine, job_id: str) -> None:
    core.wiring.storage.delete([core.job(job_id).input_key])


def test_an_input_that_is_gone_before_it_is_read_fails_the_job(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    lose_input(core, job_id)
    job = core.drive(job_id)
    assert job.state is JobState.FAILED
