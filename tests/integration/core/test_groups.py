"""Groups on the real Postgres and object store: planned once, steered as one, read as one, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from core_machine import CoreMachine, core_machine
from seeded_work import SeededItem, bad_body, expected_of, failing, good, input_file, mixed

from app.domain.groups import GroupOrder
from app.domain.result_pages import GroupCursor
from app.domain.states import JobState
from app.errors import (
    Gone,
    InvalidRequest,
    NotFound,
    NothingToRetry,
    ObjectMissing,
    QueueFull,
    StateConflict,
    StorageUnavailable,
)
from app.services.cancel_job import cancel_job
from app.services.change_tenant import change_tenant
from app.services.find_group_result import find_group_result
from app.services.lead_group import MOST_ATTEMPTS, Led
from app.services.order_group import order_group
from app.services.pause_job import pause_job
from app.services.read_group_results import GroupResults, read_group_results
from app.services.retry_group import retry_group
from app.services.retry_job import retry_job
from app.services.show_group_manifest import show_group_manifest
from app.services.sweep_expired import sweep_expired


@pytest.fixture(scope="module")
def module_core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """Members of five items in chunks of two."""
    with core_machine(servers, chunk_max_items=2, max_member_items=5) as machine:
        yield machine


def submit(core: CoreMachine, items: list[SeededItem], **fields: Any) -> str:
    return core.submit_group(input_file(items), model="echo", **fields)


def order(core: CoreMachine, group_id: str, order: GroupOrder) -> JobState:
    return order_group(wiring=core.wiring, tenant_id=core.tenant_id, group_id=group_id, order=order).state


def read(
    core: CoreMachine, group_id: str, *, after: GroupCursor | None = None, limit: int | None = None
) -> tuple[list[dict[str, Any]], GroupResults]:
    results = read_group_results(
        wiring=core.wiring,
        tenant_id=core.tenant_id,
        group_id=group_id,
        statuses=None,
        after=after or GroupCursor(),
        limit=limit,
    )
    return [orjson.loads(line) for line in results.lines(core.wiring.storage)], results


def test_a_group_runs_to_its_end_as_jobs_of_the_whole_file(core: CoreMachine) -> None:
    items = mixed(23, seed=4)
    group_id = submit(core, items)
    assert (core.group(group_id).state, core.group(group_id).counts.pending) == (JobState.VALIDATING, 23)
    details = core.drive_group(group_id)
    assert [len(core.chunks(member.id)) >= 2 for member in details.members] == [True] * 5
    assert details.counts.total == details.counts.finished == 23
    assert details.state is JobState.PARTIALLY_SUCCEEDED
    core.checker.check_group(group_id, expected_of(items))


@pytest.mark.parametrize(
    ("items", "state"),
    [
        ([good(str(n)) for n in range(11)], JobState.SUCCEEDED),
        ([failing(str(n)) for n in range(11)], JobState.FAILED),
        ([*(good(str(n)) for n in range(5)), *(bad_body(str(n)) for n in range(5, 10))], JobState.PARTIALLY_SUCCEEDED),
    ],
)
def test_a_group_ends_as_one_job_would(core: CoreMachine, items: list[SeededItem], state: JobState) -> None:
    assert core.drive_group(submit(core, items)).state is state


@pytest.mark.parametrize("ends", [b"", b"\n", b"\n\n \r\n"], ids=["no line end", "one", "blank lines"])
def test_marks_and_line_ends_are_no_items(core: CoreMachine, ends: bytes) -> None:
    items = [good(str(n)) for n in range(12)]
    content = b"\xef\xbb\xbf" + input_file(items).replace(b"\n", b"\r\n").rstrip() + ends
    group_id = core.submit_group(content, model="echo")
    core.drive_group(group_id)
    core.checker.check_group(group_id, expected_of(items))


def test_results_are_one_stream_in_the_order_of_the_input(core: CoreMachine) -> None:
    items = mixed(23, seed=5)
    group_id = submit(core, items)
    core.drive_group(group_id)
    lines, results = read(core, group_id)
    assert (results.complete, results.next_cursor) == (True, None)
    assert {line["index"]: line["custom_id"] for line in lines} == {n: item.custom_id for n, item in enumerate(items)}
    assert [line["index"] // 5 for line in lines] == sorted(line["index"] // 5 for line in lines)
    paged, cursor = [], GroupCursor()
    while cursor is not None:
        page, results = read(core, group_id, after=cursor, limit=4)
        cursor = results.next_cursor and GroupCursor.decode(results.next_cursor.encode())
        paged += page
    assert paged == lines


def test_one_result_is_found_before_the_jobs_in_front_have_ended(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(15)])
    core.lead(group_id)
    first, *_, last = core.group(group_id).members
    pause_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=first.id)
    core.drive(last.id)
    found = find_group_result(wiring=core.wiring, tenant_id=core.tenant_id, group_id=group_id, custom_id="14")
    assert (orjson.loads(found)["custom_id"], orjson.loads(found)["index"]) == ("14", 14)
    for unknown in ("0", "15"):
        with pytest.raises(NotFound) as refusal:
            find_group_result(wiring=core.wiring, tenant_id=core.tenant_id, group_id=group_id, custom_id=unknown)
        assert refusal.value.param == "custom_id"


def test_a_stream_that_grows_neither_skips_nor_repeats(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(20)])
    core.lead(group_id)
    seen, cursor = [], GroupCursor()
    while cursor is not None:
        core.worker_lives()
        core.look()
        for job_id, grants in reversed(core.publisher.take_waves()):
            for grant in grants:
                core.run(grant.chunk_id)
            core.finish(job_id)
        lines, results = read(core, group_id, after=cursor)
        seen += lines
        cursor = results.next_cursor
    assert sorted(line["custom_id"] for line in seen) == sorted(str(n) for n in range(20))
    assert results.complete


def test_the_manifest_covers_every_member(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])
    details = core.drive_group(group_id)
    manifest = show_group_manifest(wiring=core.wiring, tenant_id=core.tenant_id, group_id=group_id)
    assert manifest.complete
    assert sum(part.n_items for part in manifest.parts) == 12
    assert list(dict.fromkeys(part.job_id for part in manifest.parts)) == [member.id for member in details.members]


def test_a_bad_line_anywhere_refuses_the_whole_group_by_its_number(core: CoreMachine) -> None:
    lines = input_file([good(str(n)) for n in range(12)]).splitlines()
    lines[7], lines[11] = b"{", lines[2]
    group_id = core.submit_group(b"\n".join(lines), model="echo")
    assert core.lead(group_id) is Led.DONE
    details = core.group(group_id)
    assert (details.state, details.members, details.counts.total) == (JobState.FAILED, [], 0)
    problems = [(problem["line"], problem["code"]) for problem in details.group.validation_errors]
    assert problems == [(8, "invalid_json_line"), (12, "duplicate_custom_id")]
    assert details.finished_at is not None
    assert core.lead(group_id) is Led.NOT_NEEDED


def test_more_lines_than_a_group_may_have_are_refused(core: CoreMachine) -> None:
    few = replace(core, wiring=replace(core.wiring, settings=replace(core.wiring.settings, max_group_items=10)))
    group_id = submit(few, [good(str(n)) for n in range(11)])
    few.lead(group_id)
    assert (core.group(group_id).group.failure or {})["code"] == "too_many_requests_in_file"


def test_a_planner_that_dies_is_followed_by_another_behind_the_last_member(
    core: CoreMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [good(str(n)) for n in range(23)]
    group_id = submit(core, items)

    class Killed(BaseException):
        """As SIGKILL: nothing of ours sees it."""

    ids = iter(["job_" + digit * 32 for digit in "ab"])

    def next_id(_prefix: str) -> str:
        if (made := next(ids, None)) is None:
            raise Killed
        return made

    monkeypatch.setattr("app.services.plan_group.new_id", next_id)
    with pytest.raises(Killed):
        core.lead(group_id)
    monkeypatch.undo()
    assert (len(core.group(group_id).members), core.group(group_id).counts.total) == (2, 23)
    assert core.lead(group_id) is Led.NOT_NEEDED
    core.sql("UPDATE groups SET lead_until = now() - interval '1 second' WHERE id = :id", id=group_id)
    core.drive_group(group_id)
    core.checker.check_group(group_id, expected_of(items))


def test_many_leads_at_once_make_each_member_once(core: CoreMachine) -> None:
    items = [good(str(n)) for n in range(40)]
    group_id = submit(core, items)
    with ThreadPoolExecutor(4) as pool:
        assert Led.DONE in list(pool.map(lambda _: core.lead(group_id), range(4)))
    core.drive_group(group_id)
    core.checker.check_group(group_id, expected_of(items))


def test_a_lead_that_was_overtaken_writes_nothing(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])

    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(core.wiring.storage, name)

        def open(self, *args: Any, **kwargs: Any) -> Any:
            core.sql("UPDATE groups SET lead_until = now() - interval '1 second' WHERE id = :id", id=group_id)
            assert core.lead(group_id) is Led.DONE
            return core.wiring.storage.open(*args, **kwargs)

    slow = replace(core, wiring=replace(core.wiring, storage=Overtaken()))
    assert slow.lead(group_id) is Led.LOST
    assert len(core.group(group_id).members) == 3


class Away:
    """An object store that does not answer, or has lost everything."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def open(self, *_args: Any, **_kwargs: Any) -> Any:
        raise self._error


def test_a_store_that_is_away_for_long_costs_a_group_nothing(core: CoreMachine) -> None:
    items = [good(str(n)) for n in range(6)]
    group_id = submit(core, items)
    away = replace(core, wiring=replace(core.wiring, storage=Away(StorageUnavailable("away"))))
    for _ in range(MOST_ATTEMPTS + 2):
        with pytest.raises(StorageUnavailable):
            away.lead(group_id)
    core.drive_group(group_id)
    core.checker.check_group(group_id, expected_of(items))


def test_an_input_that_is_gone_refuses_the_group(core: CoreMachine) -> None:
    group_id = submit(core, [good("a")])
    gone = replace(core, wiring=replace(core.wiring, storage=Away(ObjectMissing("gone"))))
    assert gone.lead(group_id) is Led.DONE
    assert core.group(group_id).state is JobState.FAILED


def test_an_input_on_which_leads_die_fails_in_the_end(core: CoreMachine) -> None:
    group_id = submit(core, [good("a")])
    core.sql("UPDATE groups SET lead_attempts = :most WHERE id = :id", most=MOST_ATTEMPTS, id=group_id)
    core.lead(group_id)
    assert core.group(group_id).state is JobState.FAILED


def test_cancelling_before_the_plan_leaves_every_item_its_line(core: CoreMachine) -> None:
    items = [good(str(n)) for n in range(12)]
    group_id = submit(core, items)
    assert order(core, group_id, GroupOrder.CANCEL) is JobState.CANCELLING
    assert order(core, group_id, GroupOrder.CANCEL) is JobState.CANCELLING
    details = core.drive_group(group_id)
    assert (details.state, details.counts.cancelled) == (JobState.CANCELLED, 12)
    assert order(core, group_id, GroupOrder.CANCEL) is JobState.CANCELLED
    core.checker.check_group(group_id)


def test_cancelling_in_the_middle_keeps_what_finished(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])
    core.lead(group_id)
    first = core.group(group_id).members[0].id
    for chunk_id in core.granted(first):
        core.run(chunk_id)
    order(core, group_id, GroupOrder.CANCEL)
    details = core.drive_group(group_id)
    assert details.state is JobState.CANCELLED
    assert details.counts.succeeded >= 2
    assert details.counts.succeeded + details.counts.cancelled == 12
    core.checker.check_group(group_id)


def test_a_group_that_has_ended_is_not_cancelled(core: CoreMachine) -> None:
    group_id = submit(core, [good("a")])
    core.drive_group(group_id)
    for refused in (GroupOrder.CANCEL, GroupOrder.PAUSE, GroupOrder.RESUME):
        with pytest.raises(StateConflict):
            order(core, group_id, refused)


def test_a_cancel_that_races_the_end_leaves_one_end(core: CoreMachine) -> None:
    group_id = submit(core, [good("a"), good("b")])
    core.lead(group_id)
    (member,) = core.group(group_id).members
    order(core, group_id, GroupOrder.CANCEL)
    core.sql("UPDATE jobs SET group_order_seq = 0 WHERE id = :id", id=member.id)
    for chunk_id in core.granted(member.id):
        core.run(chunk_id)
    core.finish(member.id)
    details = core.drive_group(group_id)
    assert details.state is JobState.SUCCEEDED
    core.checker.check_group(group_id)


def test_a_paused_group_rests_and_goes_on(core: CoreMachine) -> None:
    items = [good(str(n)) for n in range(12)]
    group_id = submit(core, items)
    assert order(core, group_id, GroupOrder.PAUSE) is JobState.PAUSED
    core.lead(group_id)
    assert {member.state for member in core.group(group_id).members} == {JobState.PAUSED}
    assert not any(core.granted(member.id) for member in core.group(group_id).members)
    assert order(core, group_id, GroupOrder.PAUSE) is JobState.PAUSED
    order(core, group_id, GroupOrder.RESUME)
    assert core.drive_group(group_id).state is JobState.SUCCEEDED
    core.checker.check_group(group_id, expected_of(items))


def test_a_window_that_closes_ends_every_member(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])
    core.sql("UPDATE groups SET deadline_at = now() - interval '1 second' WHERE id = :id", id=group_id)
    details = core.drive_group(group_id)
    assert (details.state, details.counts.expired) == (JobState.EXPIRED, 12)
    core.checker.check_group(group_id)


def test_one_cancelled_member_shows_in_the_group(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])
    core.lead(group_id)
    cancel_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=core.group(group_id).members[1].id)
    details = core.drive_group(group_id)
    assert (details.state, details.counts.cancelled, details.counts.succeeded) == (JobState.CANCELLED, 5, 7)


def test_a_group_counts_as_one_job_towards_the_cap(core: CoreMachine) -> None:
    full = replace(core, wiring=replace(core.wiring, settings=replace(core.wiring.settings, max_queued_jobs=2)))
    group_id = submit(full, [good(str(n)) for n in range(40)])
    full.lead(group_id)
    assert len(core.group(group_id).members) == 8
    core.submit([good("one more")])
    with pytest.raises(QueueFull):
        full.submit([good("too many")])
    with pytest.raises(QueueFull):
        submit(full, [good("too many")])


def test_results_of_all_members_end_together(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)], output_expires_after_s=3600)
    core.lead(group_id)
    first = core.group(group_id).members[0].id
    core.drive(first)
    assert core.job(first).results_expire_at is None
    details = core.drive_group(group_id)
    assert {core.job(member.id).results_expire_at for member in details.members} == {details.group.results_expire_at}
    core.sql("UPDATE groups SET results_expire_at = now() WHERE id = :id", id=group_id)
    with pytest.raises(NotFound, match="expired"):
        read(core, group_id)


def test_the_input_stays_for_as_long_as_the_group_may_need_it(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])
    file_id, key = core.group(group_id).group.input_file_id, core.group(group_id).group.input_key
    core.sql("UPDATE files SET deleted_at = now() - interval '2 days' WHERE id = :id", id=file_id)
    sweep_expired(wiring=core.wiring)
    core.drive_group(group_id)
    core.checker.check_group(group_id)
    sweep_expired(wiring=core.wiring)
    with pytest.raises(ObjectMissing), core.wiring.storage.open(key):
        pass


def test_a_second_look_of_the_dispatcher_finds_what_a_group_needs(core: CoreMachine) -> None:
    group_id = submit(core, [good("a")])
    core.look()
    assert core.publisher.leads == [group_id]
    core.lead(group_id)
    core.publisher.leads.clear()
    core.look()
    assert core.publisher.leads == []


def retry(core: CoreMachine, group_id: str, *include: str) -> JobState:
    chosen = {"include": include} if include else {}
    return retry_group(wiring=core.wiring, tenant_id=core.tenant_id, group_id=group_id, **chosen).state


def test_what_was_cancelled_runs_again_and_the_group_ends_anew(core: CoreMachine) -> None:
    items = [good(str(n)) for n in range(12)]
    group_id = submit(core, items)
    order(core, group_id, GroupOrder.CANCEL)
    core.drive_group(group_id)
    assert retry(core, group_id) is JobState.RUNNING
    reopened = core.group(group_id)
    assert (reopened.group.closed_at, reopened.counts.total) == (None, 12)
    with pytest.raises(StateConflict):
        retry(core, group_id)
    details = core.drive_group(group_id)
    assert (details.state, details.counts.succeeded) == (JobState.SUCCEEDED, 12)
    core.checker.check_group(group_id, expected_of(items))
    with pytest.raises(NothingToRetry):
        retry(core, group_id)


def test_only_members_with_such_items_run_again(core: CoreMachine) -> None:
    items = [*(good(str(n)) for n in range(5)), *(failing(str(n)) for n in range(5, 10))]
    group_id = submit(core, items)
    core.drive_group(group_id)
    with pytest.raises(NothingToRetry):
        retry(core, group_id, "expired", "cancelled")
    retry(core, group_id, "failed")
    details = core.drive_group(group_id)
    assert [member.attempt_runs for member in details.members] == [0, 1]
    assert details.state is JobState.PARTIALLY_SUCCEEDED
    core.checker.check_group(group_id, expected_of(items))


def test_a_retry_that_is_cancelled_ends_cancelled(core: CoreMachine) -> None:
    group_id = submit(core, [failing(str(n)) for n in range(7)])
    core.drive_group(group_id)
    retry(core, group_id)
    core.lead(group_id)
    order(core, group_id, GroupOrder.CANCEL)
    assert core.drive_group(group_id).state is JobState.CANCELLED
    core.checker.check_group(group_id)


def test_a_member_retried_alone_opens_its_group_again(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])
    order(core, group_id, GroupOrder.CANCEL)
    member = core.drive_group(group_id).members[1].id
    retry_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=member)
    assert core.group(group_id).state is JobState.RUNNING
    details = core.drive_group(group_id)
    assert (details.counts.succeeded, details.counts.cancelled) == (5, 7)
    core.checker.check_group(group_id)


def test_a_cursor_behind_lines_that_a_retry_replaced_is_refused(core: CoreMachine) -> None:
    group_id = submit(core, [*(failing(str(n)) for n in range(5)), *(good(str(n)) for n in range(5, 10))])
    core.drive_group(group_id)
    _lines, results = read(core, group_id, limit=7)
    assert results.next_cursor is not None
    retry(core, group_id)
    core.drive_group(group_id)
    with pytest.raises(InvalidRequest, match="retry"):
        read(core, group_id, after=results.next_cursor)


def test_a_refused_or_expired_group_is_not_retried(core: CoreMachine) -> None:
    refused = core.submit_group(b"{", model="echo")
    core.lead(refused)
    with pytest.raises(NothingToRetry):
        retry(core, refused)
    expired = submit(core, [failing("a")])
    core.drive_group(expired)
    core.sql("UPDATE jobs SET results_expire_at = now() WHERE group_id = :id", id=expired)
    with pytest.raises(Gone):
        retry(core, expired)


def test_a_shorter_retention_ends_a_group_and_its_members_together(core: CoreMachine) -> None:
    group_id = submit(core, [good(str(n)) for n in range(12)])
    details = core.drive_group(group_id)
    (tenant,) = core.sql("SELECT name FROM tenants WHERE id = :id", id=core.tenant_id)
    change_tenant(wiring=core.wiring, name=tenant["name"], changes={"retention_s": 600})
    try:
        group = core.group(group_id).group
        assert group.closed_at is not None
        assert group.results_expire_at == group.closed_at + timedelta(seconds=600)
        assert {core.job(member.id).results_expire_at for member in details.members} == {group.results_expire_at}
    finally:
        change_tenant(wiring=core.wiring, name=tenant["name"], changes={"retention_s": None})
