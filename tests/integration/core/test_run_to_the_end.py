"""Whole jobs through the core: each item ends once, as it was seeded, in both dialects."""

from __future__ import annotations

import orjson
import pytest
from core_machine import CoreMachine
from seeded_work import bad_body, expected_of, failing, good, input_file, mixed, retried

from app.domain.jobs import Dialect
from app.domain.states import JobState
from app.services.finish_job import Finished


@pytest.mark.parametrize("seed", range(3))
def test_a_mixed_native_job_ends_with_every_seeded_outcome(core: CoreMachine, seed: int) -> None:
    items = mixed(60, seed=seed)
    job_id = core.submit(items)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_mixed_batch_ends_with_every_seeded_outcome_in_its_two_files(core: CoreMachine) -> None:
    items = mixed(60, seed=7)
    job_id = core.submit_batch(items)
    job = core.drive(job_id)
    assert job.state is JobState.PARTIALLY_SUCCEEDED
    assert job.output_file_id
    assert job.error_file_id
    core.checker.check_job(job_id, expected_of(items))


def test_an_item_that_is_retried_counts_its_attempts(core: CoreMachine) -> None:
    items = [good("a"), retried("b", fail_times=2), good("c")]
    job_id = core.submit(items)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))
    assert {name: line.attempts for name, line in core.checker.results(job_id).items()} == {"a": 1, "b": 3, "c": 1}


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_an_item_that_fails_for_ever_fails_after_its_last_attempt(core: CoreMachine, max_attempts: int) -> None:
    items = [good("a"), failing("b", code="rate_limited")]
    job_id = core.submit(items, max_attempts=max_attempts)
    assert core.drive(job_id).state is JobState.PARTIALLY_SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))
    assert core.checker.results(job_id)["b"].attempts == max_attempts


def test_a_job_of_which_nothing_succeeds_has_failed_and_every_item_its_line(core: CoreMachine) -> None:
    items = [bad_body("a"), failing("b")]
    job_id = core.submit(items)
    assert core.drive(job_id).state is JobState.FAILED
    core.checker.check_job(job_id, expected_of(items))


def test_a_batch_of_which_nothing_succeeds_has_only_an_error_file(core: CoreMachine) -> None:
    job_id = core.submit_batch([bad_body("a"), failing("b")])
    job = core.drive(job_id)
    assert job.output_file_id is None
    assert job.error_file_id
    core.checker.check_job(job_id)


def test_one_misspelt_model_fails_one_item_and_not_its_neighbours(core: CoreMachine) -> None:
    lines = [
        {"custom_id": "typo", "body": {"model": "eco", "input": "x"}},
        *({"custom_id": n, "body": {"model": "echo", "input": n}} for n in "ab"),
    ]
    job_id = core.submit_content(b"\n".join(map(orjson.dumps, lines)), dialect=Dialect.NATIVE)
    core.drive(job_id)
    core.checker.check_job(job_id)
    found = core.checker.results(job_id)
    assert {name: (line.status, line.code) for name, line in found.items()} == {
        "typo": ("failed", "model_not_found"),
        "a": ("succeeded", None),
        "b": ("succeeded", None),
    }


def test_a_native_job_without_any_usable_model_fails_item_by_item(core: CoreMachine) -> None:
    lines = [{"custom_id": name, "body": {"input": name}} for name in "abc"]
    job_id = core.submit_content(b"\n".join(map(orjson.dumps, lines)), dialect=Dialect.NATIVE)
    assert core.drive(job_id).state is JobState.FAILED
    core.checker.check_job(job_id)
    assert {line.code for line in core.checker.results(job_id).values()} == {"missing_required_parameter"}


def test_carriage_returns_a_byte_order_mark_and_no_last_newline_change_nothing(core: CoreMachine) -> None:
    items = [good(f"item-{number}") for number in range(11)] + [retried("again")]
    content = b"\xef\xbb\xbf" + input_file(items, endpoint="/v1/echo").replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    job_id = core.submit_content(content)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))


@pytest.mark.parametrize(
    "custom_id", ["../../etc/passwd", "a\u0000b", "x" * 512, "ünï\u2028code", "\U0001f600", "a\rb\nc", "%s{0}$", " "]
)
def test_a_custom_id_is_only_data(core: CoreMachine, custom_id: str) -> None:
    items = [good("before"), retried(custom_id)]
    for job_id in (core.submit(items), core.submit_batch(items)):
        assert core.drive(job_id).state is JobState.SUCCEEDED
        core.checker.check_job(job_id, expected_of(items))


def test_finishing_again_changes_nothing(core: CoreMachine) -> None:
    job_id = core.submit_batch([good("a"), failing("b")])
    core.drive(job_id)
    before = (
        core.sql("SELECT * FROM jobs WHERE id = :id", id=job_id),
        core.sql("SELECT * FROM result_parts WHERE job_id = :id", id=job_id),
    )
    assert core.finish(job_id) is Finished.ALREADY
    assert before == (
        core.sql("SELECT * FROM jobs WHERE id = :id", id=job_id),
        core.sql("SELECT * FROM result_parts WHERE job_id = :id", id=job_id),
    )
    core.checker.check_job(job_id)
