"""A job whose every item would be refused, such as by a server that does not take our key, ends soon and says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from chat_core import CHAT, chatting
from core_machine import CoreMachine
from scripted_upstream import Request, Said, completion, error, scripted_upstream
from seeded_work import Expected, SeededItem, expected_of, good, retried

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome
from app.domain.result_pages import Cursor
from app.domain.states import JobState
from app.ports import RunRequest
from app.services.read_results import read_results
from app.services.retry_job import retry_job

REASON = "The upstream server refuses the key."


@dataclass(slots=True)
class Refusing:
    """Runs items one by one until a key is no longer taken; from then on each is refused."""

    core: CoreMachine
    takes: int
    asked: list[str] = field(default_factory=list)

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        for item in request.items:
            if request.should_stop():
                return
            self.asked.append(item.custom_id)
            yield from self._one(request, item)

    def _one(self, request: RunRequest, item: InputItem) -> Iterator[ItemOutcome]:
        if len(self.asked) > self.takes:
            yield ItemFailed(item.index, ItemErrorCode.UPSTREAM_UNAVAILABLE, REASON, stops_job=True)
        else:
            yield from self.core.runner.run(replace(request, items=[item]))


def refused(custom_id: str) -> SeededItem:
    return replace(good(custom_id), expected=Expected("failed", "upstream_unavailable"))


def test_a_refused_job_ends_without_trying_its_other_items_and_keeps_what_was_finished(core: CoreMachine) -> None:
    items = [*(good(f"taken-{n}") for n in range(6)), *(refused(f"refused-{n}") for n in range(14))]
    job_id = core.planned(items)
    refusing = Refusing(core, takes=6)
    job = replace(core, runner=refusing).drive(job_id)
    core.checker.check_job(job_id, expected_of(items))
    assert (job.state, job.refusal) == (JobState.PARTIALLY_SUCCEEDED, REASON)
    assert len(refusing.asked) == 7
    stops = core.sql("SELECT data FROM events WHERE job_id = :id AND kind = 'stop'", id=job_id)
    assert [stop["data"] for stop in stops] == [{"reason": "refused", "message": REASON}]


def test_a_job_that_is_refused_from_its_first_item_on_fails(core: CoreMachine) -> None:
    items = [refused(name) for name in "abcdefghij"]
    job_id = core.planned(items)
    assert replace(core, runner=Refusing(core, takes=0)).drive(job_id).state is JobState.FAILED
    core.checker.check_job(job_id, expected_of(items))


def test_items_that_wait_for_another_attempt_are_refused_too(core: CoreMachine) -> None:
    items = [replace(retried("again"), expected=Expected("failed", "upstream_unavailable")), refused("next")]
    job_id = core.planned(items)
    replace(core, runner=Refusing(core, takes=1)).drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_once_the_key_is_mended_a_retry_runs_what_was_refused(core: CoreMachine) -> None:
    job_id = core.planned([good(name) for name in "abcdefgh"])
    replace(core, runner=Refusing(core, takes=3)).drive(job_id)
    retry_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)
    job = core.drive(job_id)
    assert (job.state, job.refusal) == (JobState.SUCCEEDED, None)
    core.checker.check_job(job_id, expected_of([good(name) for name in "abcdefgh"]))


def test_items_failed_without_being_run_say_nothing_about_the_rate_of_a_model(core: CoreMachine) -> None:
    core.sql("DELETE FROM model_rates")
    job_id = core.planned([refused(f"item-{n}") for n in range(8)])
    replace(core, runner=Refusing(core, takes=0)).drive(job_id)
    assert core.sql("SELECT * FROM model_rates") == []


class TestAgainstAServer:
    """The same with the real engine, over HTTP."""

    def test_a_chat_batch_runs_on_the_server_and_tells_its_usage(self, core: CoreMachine) -> None:
        with scripted_upstream() as upstream, chatting(core, upstream) as chatty:
            job_id = submit_chat(chatty, [f"text {n}" for n in range(10)])
            assert chatty.drive(job_id).state is JobState.SUCCEEDED
        lines = results_of(core, job_id)
        assert {line["response"]["body"]["choices"][0]["message"]["content"] for line in lines} == {
            f"text {n}" for n in range(10)
        }
        assert all(line["usage"] == {"input_tokens": 6, "output_tokens": 2} for line in lines)

    def test_a_server_that_takes_our_key_no_longer_ends_the_job_with_what_it_had(self, core: CoreMachine) -> None:
        n_of_a_chunk = core.wiring.settings.chunk_max_items
        key_is_good = [True] * n_of_a_chunk  # to the end of the first chunk: within one, answers overtake each other

        def script(request: Request) -> Said:
            return completion(request) if key_is_good and key_is_good.pop() else error(401, "Incorrect API key")

        with scripted_upstream(script) as upstream, chatting(core, upstream) as chatty:
            job_id = submit_chat(chatty, [f"text {n}" for n in range(30)])
            job = chatty.drive(job_id)
        assert job.state is JobState.PARTIALLY_SUCCEEDED
        assert job.refusal is not None
        assert "refuses the key" in job.refusal
        assert len(upstream.requests) < 15
        statuses = [line["status"] for line in results_of(core, job_id)]
        assert sorted(statuses) == ["failed"] * (30 - n_of_a_chunk) + ["succeeded"] * n_of_a_chunk


def submit_chat(core: CoreMachine, texts: list[str]) -> str:
    bodies = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    items = [SeededItem(f"item-{n}", body, Expected("succeeded")) for n, body in enumerate(bodies)]
    job_id = core.submit(items, endpoint=CHAT, model="chat")
    core.prepare(job_id)
    return job_id


def results_of(core: CoreMachine, job_id: str) -> list[dict[str, Any]]:
    results = read_results(
        wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id, statuses=None, after=Cursor(), limit=None
    )
    return [orjson.loads(line) for line in results.lines(core.wiring.storage)]
