"""What those who listen to jobs and groups are told, and that whoever goes on behind an event misses none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_machine import CoreMachine
from seeded_work import failing, good

from app.domain.live_events import Mark
from app.errors import DatabaseUnavailable, InvalidRequest, NotFound
from app.services import follow_events
from app.services.cancel_job import cancel_job
from app.services.follow_events import Feed, JobFeed, follow_group, follow_job, read_feeds
from app.services.retry_job import retry_job

Event = dict[str, Any]


def parsed(data: bytes) -> list[Event]:
    """``{event, id, data}`` of each block; comments left out."""
    found = []
    for block in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


def heard(core: CoreMachine, feed: Feed) -> list[Event]:
    (told,) = read_feeds(wiring=core.wiring, feeds=[feed])
    return parsed(told)


def listen(core: CoreMachine, job_id: str, last: str | None = None) -> JobFeed:
    mark = None if last is None else Mark.read(last)
    feed = follow_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id, mark=mark)
    assert feed is not None
    return feed


def kinds(events: list[Event]) -> list[str]:
    return [event["event"] for event in events]


def states(events: list[Event]) -> list[str]:
    return [event["data"]["state"] for event in events if event["event"] in {"state", "done"}]


def test_a_listener_hears_how_a_job_stands_and_then_what_happens_to_it(core: CoreMachine) -> None:
    job_id = core.submit([good(f"item-{n}") for n in range(8)])
    feed = listen(core, job_id)
    first = heard(core, feed)
    assert (kinds(first), states(first)) == (["state", "progress"], ["validating"])
    assert heard(core, feed) == []
    core.prepare(job_id)
    assert states(heard(core, feed)) == ["queued"]
    chunks = core.granted(job_id)
    core.run(chunks[0])
    events = heard(core, feed)
    assert kinds(events) == ["state", "chunk", "progress"]
    assert (events[1]["data"]["chunk_id"], events[1]["data"]["state"]) == (chunks[0], "done")
    assert events[2]["data"]["progress"] == 0.5
    core.run(chunks[1])
    core.finish(job_id)
    events = heard(core, feed)
    assert kinds(events) == ["chunk", "state", "state", "progress", "done"]
    assert states(events) == ["finalizing", "succeeded", "succeeded"]
    assert events[-1]["data"]["counts"]["succeeded"] == 8
    assert feed.has_ended


def test_whoever_goes_on_behind_an_event_hears_exactly_what_came_behind_it(core: CoreMachine) -> None:
    job_id = core.planned([good(f"item-{n}") for n in range(16)])
    feed = listen(core, job_id, "0")
    whole: list[Event] = heard(core, feed)
    for chunk_id in core.granted(job_id):
        core.run(chunk_id)
        whole += heard(core, feed)
    core.drive(job_id)
    whole += heard(core, feed)
    with_ids = [event for event in whole if event["event"] in {"state", "chunk"}]
    ids = [int(event["id"]) for event in with_ids]
    assert ids == sorted(set(ids))
    for place, event in enumerate(with_ids):
        again = heard(core, listen(core, job_id, event["id"]))
        assert [one for one in again if one["event"] in {"state", "chunk"}] == with_ids[place + 1 :]
        assert again[-1]["event"] == "done"


def test_a_long_history_is_told_in_pieces(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_events, "EVENTS_AT_ONCE", 3)
    job_id = core.planned([good(f"item-{n}") for n in range(16)])
    core.drive(job_id)
    feed = listen(core, job_id, "0")
    pieces = [heard(core, feed) for _ in range(4)]
    assert [len(piece) for piece in pieces[:2]] == [3, 3]
    assert pieces[-1] == [] or kinds(pieces[-1])[-1] == "done"
    whole = [event for piece in pieces for event in piece]
    assert kinds(whole).count("chunk") == 4
    assert kinds(whole)[-2:] == ["progress", "done"]


def test_a_job_that_has_ended_says_so_at_once(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    core.drive(job_id)
    feed = listen(core, job_id)
    assert (kinds(heard(core, feed)), feed.has_ended) == (["state", "progress", "done"], True)


def test_whoever_has_heard_the_end_need_not_come_back_unless_it_is_retried(core: CoreMachine) -> None:
    job_id = core.planned([good("a"), failing("b")])
    core.drive(job_id)
    last = heard(core, listen(core, job_id))[-1]["id"]
    follow = {"wiring": core.wiring, "tenant_id": core.tenant_id, "job_id": job_id, "mark": Mark.read(last)}
    assert follow_job(**follow) is None
    retry_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)
    feed = listen(core, job_id, last)
    assert states(heard(core, feed)) == ["queued"]


def test_a_job_whose_events_were_swept_still_says_how_it_ended(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    core.drive(job_id)
    core.sql("DELETE FROM events WHERE job_id = :id", id=job_id)
    assert states(heard(core, listen(core, job_id, "17"))) == ["succeeded"]
    assert states(heard(core, listen(core, job_id))) == ["succeeded", "succeeded"]


def test_many_listeners_are_each_told_their_own(core: CoreMachine) -> None:
    job_ids = [core.planned([good("a")]) for _ in range(5)]
    feeds = [listen(core, job_id) for job_id in job_ids for _ in range(3)]
    read_feeds(wiring=core.wiring, feeds=feeds)
    cancel_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_ids[2])
    told = read_feeds(wiring=core.wiring, feeds=feeds)
    assert [bool(data) for data in told] == [feed.job_id == job_ids[2] for feed in feeds]


def test_a_group_tells_how_it_stands_until_it_has_ended(core: CoreMachine) -> None:
    group_id = core.submit_group(b"".join(good(f"item-{n}").line() for n in range(6)), model="echo")
    feed = follow_group(wiring=core.wiring, tenant_id=core.tenant_id, group_id=group_id)
    assert states(heard(core, feed)) == ["validating"]
    assert heard(core, feed) == []
    core.drive_group(group_id)
    events = heard(core, feed)
    assert (kinds(events), feed.has_ended) == (["state", "progress", "done"], True)
    assert events[-1]["data"]["counts"]["succeeded"] == 6


def test_what_could_not_be_read_to_its_end_is_told_later(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    group_id = core.submit_group(good("a").line(), model="echo")
    feeds: list[Feed] = [
        listen(core, core.planned([good("a")]), "0"),
        follow_group(wiring=core.wiring, tenant_id=core.tenant_id, group_id=group_id),
    ]

    def breaks(*_: Any) -> None:
        raise DatabaseUnavailable("the database connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(follow_events, "group_details", breaks)
        with pytest.raises(DatabaseUnavailable):
            read_feeds(wiring=core.wiring, feeds=feeds)
    of_job, of_group = (parsed(data) for data in read_feeds(wiring=core.wiring, feeds=feeds))
    assert (states(of_job), states(of_group)) == (["queued"], ["validating"])


def test_nobody_listens_to_another_tenants_job_or_behind_what_is_no_event(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    with pytest.raises(NotFound):
        follow_job(wiring=core.wiring, tenant_id="tenant_x", job_id=job_id, mark=None)
    for text in ("", "x", "-1", "1.gone", "1" * 19, "\u0661"):
        with pytest.raises(InvalidRequest):
            Mark.read(text)
