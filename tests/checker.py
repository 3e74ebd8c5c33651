"""The promise, checked: rows and blobs of jobs against each other and against what was expected.

Run it after every fault and at the end of every load run. It reads Postgres and the object store, through none of the
code that wrote them but the reader of result lines, and gives every broken promise as a sentence; no sentence means
that nothing was lost and nothing doubled.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from seeded_work import Expected
from sqlalchemy import Connection, RowMapping, text

from app.db.session import Database
from app.domain.jobs import Dialect
from app.domain.result_lines import LineContext, to_native
from app.domain.states import JOB_TRANSITIONS, TERMINAL_JOB_STATES, JobState
from app.errors import ObjectMissing
from app.ports import ObjectStore

OVERDUE_GRACE_S = 15
LEASE_GRACE_S = 15
PART_OUTCOMES = ("succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One line of a result part, natively."""

    custom_id: str
    index: int
    status: str
    code: str | None
    body: Any
    attempts: int


class Checker:
    """Looks for broken promises in one installation."""

    def __init__(self, database: Database, storage: ObjectStore) -> None:
        self._database = database
        self._storage = storage

    def check_job(self, job_id: str, expected: Mapping[str, Expected] | None = None) -> None:
        """Assert that a terminal job kept every promise.

        Args:
            expected: custom_id -> the outcome its item was seeded with; None where only consistency matters.
        """
        problems = list(self.problems_of_job(job_id, expected))
        assert not problems, f"{job_id}:\n" + "\n".join(problems)

    def check_group(self, group_id: str, expected: Mapping[str, Expected] | None = None) -> None:
        """Assert that a closed group and all of its members kept every promise; arguments as ``check_job``."""
        problems = list(self.problems_of_group(group_id, expected))
        assert not problems, f"{group_id}:\n" + "\n".join(problems)

    def check_all(self) -> None:
        """Assert that nothing in the whole installation is stuck, lost or unexplained."""
        problems = list(self.problems_of_all())
        assert not problems, "\n".join(problems)

    def problems_of_job(self, job_id: str, expected: Mapping[str, Expected] | None = None) -> Iterator[str]:
        """Every promise that one job, which should have ended, did not keep."""
        with self._database.begin() as connection:
            job = _one(connection, "SELECT * FROM jobs WHERE id = :id", id=job_id)
            chunks = _all(connection, "SELECT * FROM chunks WHERE job_id = :id ORDER BY ordinal", id=job_id)
            parts = _all(connection, "SELECT * FROM result_parts WHERE job_id = :id ORDER BY seq", id=job_id)
            events = _all(connection, "SELECT * FROM events WHERE job_id = :id ORDER BY id", id=job_id)
            files = _all(connection, "SELECT * FROM files WHERE job_id = :id AND deleted_at IS NULL", id=job_id)
        if job["state"] not in TERMINAL_JOB_STATES:
            yield f"it is {job['state']}, not at its end; chunks: {dict(Counter(chunk['state'] for chunk in chunks))}"
            return
        yield from _history_problems(job, events)
        if job["final"] is None:
            if parts or chunks:
                yield f"its input was refused, but it has {len(chunks)} chunks and {len(parts)} parts"
            return
        yield from _chunk_problems(chunks)
        yield from _retry_problems(job, chunks, parts)
        lines: list[ResultLine] = []
        yield from self._part_problems(job, parts, lines)
        parts = [part for part in parts if part["superseded_in"] is None]
        yield from _count_problems(job, chunks, lines)
        yield from self._line_problems(job, lines)
        yield from _expectation_problems(lines, expected or {})
        if expected is not None and len(lines) != len(expected):
            yield f"{len(expected)} outcomes were expected, {len(lines)} are there"
        yield from _file_problems(job, parts, files)

    def problems_of_group(self, group_id: str, expected: Mapping[str, Expected] | None = None) -> Iterator[str]:
        """Every promise that a group, which should be closed, did not keep."""
        with self._database.begin() as connection:
            group = _one(connection, "SELECT * FROM groups WHERE id = :id", id=group_id)
            members = _all(connection, "SELECT * FROM jobs WHERE group_id = :id ORDER BY group_ordinal", id=group_id)
        if group["closed_at"] is None:
            yield f"it is not closed: {dict(Counter(member['state'] for member in members))}"
        yield from _membership_problems(group, members)
        answered: Counter[str] = Counter()
        for member in members:
            for problem in self.problems_of_job(member["id"]):
                yield f"member {member['group_ordinal']}: {problem}"
            lines = self.results(member["id"])
            answered.update(lines.keys())
            yield from _expectation_problems(lines.values(), expected or {})
        if doubled := [custom_id for custom_id, number in answered.items() if number > 1]:
            yield f"{len(doubled)} items are in two members, {doubled[0]!r} for one"
        if expected is not None and group["failure"] is None and answered.keys() != expected.keys():
            yield f"{len(expected)} outcomes were expected, {len(answered)} are there"

    def problems_of_all(self) -> Iterator[str]:
        """Every promise that the installation as a whole does not keep now."""
        with self._database.begin() as connection:
            yield from _stuck_problems(connection)
            yield from _lease_problems(connection)
            yield from _dead_letter_problems(connection)
            keys = _referenced_keys(connection)
        for key, owner in keys:
            if not self._exists(key):
                yield f"{owner} refers to {key}, which is not there"

    def results(self, job_id: str) -> dict[str, ResultLine]:
        """custom_id -> the line of each item of a job; asserts that no item is there twice."""
        with self._database.begin() as connection:
            job = _one(connection, "SELECT * FROM jobs WHERE id = :id", id=job_id)
            standing = "SELECT * FROM result_parts WHERE job_id = :id AND superseded_in IS NULL ORDER BY seq"
            parts = _all(connection, standing, id=job_id)
        lines = [line for part in parts for line in _lines_of(job, part, self._read(part["object_key"]))]
        found = {line.custom_id: line for line in lines}
        assert len(found) == len(lines), f"{job_id} has an item twice"
        return found

    def _part_problems(self, job: RowMapping, parts: Sequence[RowMapping], lines: list[ResultLine]) -> Iterator[str]:
        """Compare each part with its row, superseded or not; collects the lines that stand by the way."""
        for part in parts:
            try:
                content = self._read(part["object_key"])
            except ObjectMissing:
                yield f"part {part['seq']} is missing: {part['object_key']}"
                continue
            if len(content) != part["size_bytes"] or hashlib.sha256(content).hexdigest() != part["sha256"]:
                yield f"part {part['seq']} has other bytes than its row says"
            held = list(_lines_of(job, part, content))
            if len(held) != part["n_items"]:
                yield f"part {part['seq']} holds {len(held)} lines, its row says {part['n_items']}"
            if any(line.status != part["outcome"] for line in held):
                yield f"part {part['seq']} of outcome {part['outcome']} holds another outcome"
            if part["superseded_in"] is None:
                lines += held

    def _line_problems(self, job: RowMapping, lines: Sequence[ResultLine]) -> Iterator[str]:
        """Every item of the input has its line once, under its own custom_id."""
        asked = dict(enumerate(self._custom_ids(job), start=job["first_index"]))
        answered = Counter(line.index for line in lines)
        if doubled := [index for index, number in answered.items() if number > 1]:
            yield f"{len(doubled)} items have more than one outcome, item {doubled[0]} for one"
        if lost := asked.keys() - answered.keys():
            yield f"{len(lost)} items have no outcome, item {min(lost)} for one"
        if invented := answered.keys() - asked.keys():
            yield f"{len(invented)} outcomes belong to no item, {min(invented)} for one"
        if swapped := [line for line in lines if asked.get(line.index, line.custom_id) != line.custom_id]:
            yield f"{len(swapped)} outcomes stand under another item's custom_id, {swapped[0].custom_id!r} for one"
        if job["n_items"] != len(asked):
            yield f"it counts {job['n_items']} items, its input has {len(asked)}"
        most_attempts = job["max_attempts"] * (1 + job["attempt_runs"])
        if beyond := [line for line in lines if line.attempts > most_attempts]:
            yield f"{len(beyond)} items were tried more than {most_attempts} times"

    def _custom_ids(self, job: RowMapping) -> list[str]:
        with self._storage.open(job["input_key"], start=job["input_start"], length=job["input_size_bytes"]) as reader:
            content = reader.read().removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n \t")
        return [orjson.loads(line)["custom_id"] for line in content.split(b"\n")]

    def _read(self, key: str) -> bytes:
        with self._storage.open(key) as reader:
            return reader.read()

    def _exists(self, key: str) -> bool:
        try:
            with self._storage.open(key) as reader:
                reader.read(1)
        except ObjectMissing:
            return False
        return True


def _membership_problems(group: RowMapping, members: Sequence[RowMapping]) -> Iterator[str]:
    """The members share the whole input among them, in its order, each item once."""
    next_index, next_byte = 0, 0
    for place, member in enumerate(members):
        if (member["group_ordinal"], member["first_index"]) != (place, next_index):
            yield f"member {member['group_ordinal']} begins with item {member['first_index']}, not {next_index}"
        if member["input_start"] < next_byte:
            yield f"member {place} begins within the one before"
        if member["results_expire_at"] != group["results_expire_at"]:
            yield f"the results of member {place} end at another time than the group's"
        next_index += member["n_items"]
        next_byte = member["input_start"] + member["input_size_bytes"]
    if (group["n_items"], group["n_members"]) != (next_index, len(members)):
        yield f"it counts {group['n_items']} items in {group['n_members']} jobs; {len(members)} have {next_index}"
    if next_byte > group["input_size_bytes"]:
        yield "its last member ends behind the input"


def _lines_of(job: RowMapping, part: RowMapping, content: bytes) -> Iterator[ResultLine]:
    context = LineContext(Dialect(job["dialect"]), job["id"], job["model_version"])
    for stored in content.splitlines(keepends=True) if b"\r" not in content else _split(content):
        line = orjson.loads(to_native(stored, outcome=part["outcome"], context=context))
        yield ResultLine(
            custom_id=line["custom_id"],
            index=line["index"],
            status=line["status"],
            code=line["error"]["code"] if line["error"] else None,
            body=line["response"]["body"] if line["response"] else None,
            attempts=line["attempts"],
        )


def _split(content: bytes) -> Iterator[bytes]:
    return (line + b"\n" for line in content.removesuffix(b"\n").split(b"\n"))


def _chunk_problems(chunks: Iterable[RowMapping]) -> Iterator[str]:
    for chunk in chunks:
        name = f"chunk {chunk['ordinal']}"
        if chunk["state"] not in {"done", "split", "cancelled", "expired"}:
            yield f"{name} is still {chunk['state']}"
        if chunk["lease_token"] is not None:
            yield f"{name} is {chunk['state']} and still leased to {chunk['lease_holder']}"
        decided = chunk["n_succeeded"] + chunk["n_failed"] + chunk["n_deferred"]
        if chunk["state"] == "done" and decided != chunk["n_items"]:
            yield f"{name} of {chunk['n_items']} items decided {decided}"
        if chunk["state"] == "done" and sum(chunk["errors_by_code"].values()) != chunk["n_failed"]:
            yield f"{name} failed {chunk['n_failed']} items but names {chunk['errors_by_code']}"


def _retry_problems(job: RowMapping, chunks: Iterable[RowMapping], parts: Iterable[RowMapping]) -> Iterator[str]:
    """What a run took over is what it supersedes, and no run is there that nobody asked for."""
    taken: Counter[int] = Counter()
    for chunk in (chunk for chunk in chunks if chunk["retried_in"] is not None):
        taken[chunk["retried_in"]] += chunk["n_failed"] if chunk["state"] == "done" else chunk["n_items"]
        if chunk["retried_in"] <= chunk["run"]:
            yield f"chunk {chunk['ordinal']} of run {chunk['run']} was taken over by run {chunk['retried_in']}"
    superseded: Counter[int] = Counter()
    for part in (part for part in parts if part["superseded_in"] is not None):
        superseded[part["superseded_in"]] += part["n_items"]
    if taken != superseded:
        yield f"its runs took over {dict(taken)} items, superseded are {dict(superseded)}"
    if beyond := [run for run in {*taken, *(chunk["run"] for chunk in chunks)} if run > job["attempt_runs"]]:
        yield f"it has the run {max(beyond)} and counts {job['attempt_runs']}"


def _count_problems(job: RowMapping, chunks: Iterable[RowMapping], lines: Sequence[ResultLine]) -> Iterator[str]:
    """The counters of a job, of its chunks and of its parts are one and the same."""
    held = dict.fromkeys(PART_OUTCOMES, 0) | Counter(line.status for line in lines)
    kept = job["final"]["counts"]
    if kept["total"] != sum(kept[outcome] for outcome in ("pending", "running", *PART_OUTCOMES)):
        yield f"its counts do not sum up: {kept}"
    if {outcome: kept[outcome] for outcome in PART_OUTCOMES} != held:
        yield f"it counts {kept}, its parts hold {held}"
    counted = _counted(chunks)
    if counted != held:
        yield f"its chunks count {counted}, its parts hold {held}"
    codes = Counter(line.code for line in lines if line.status == "failed")
    if codes != job["final"]["errors_by_code"]:
        yield f"it counts the errors {job['final']['errors_by_code']}, its parts hold {dict(codes)}"
    if wrong := _wrong_end(job["state"], kept):
        yield wrong


def _counted(chunks: Iterable[RowMapping]) -> dict[str, int]:
    """Outcomes that chunks count and no later run took over."""
    counted = dict.fromkeys(PART_OUTCOMES, 0)
    for chunk in chunks:
        counted["succeeded"] += chunk["n_succeeded"]
        if chunk["retried_in"] is not None:
            continue
        counted["failed"] += chunk["n_failed"]
        if chunk["state"] in {"cancelled", "expired"}:
            counted[chunk["state"]] += chunk["n_items"]
    return counted


def _wrong_end(state: str, counts: Mapping[str, int]) -> str | None:
    whole = counts["succeeded"] == counts["total"]
    wrong = {
        JobState.SUCCEEDED: not whole,
        JobState.PARTIALLY_SUCCEEDED: whole or not counts["succeeded"],
        JobState.FAILED: bool(counts["succeeded"]),
        JobState.EXPIRED: not counts["expired"],
        JobState.CANCELLED: False,
    }
    return f"it ended {state} with {dict(counts)}" if wrong[JobState(state)] else None


def _history_problems(job: RowMapping, events: Sequence[RowMapping]) -> Iterator[str]:
    """The events of a job tell one way from ``validating`` to its state, each step allowed."""
    current = JobState.VALIDATING
    for event in (event for event in events if event["kind"] == "state"):
        before, after = JobState(event["data"]["from"]), JobState(event["data"]["to"])
        if before is not current or after not in JOB_TRANSITIONS[before]:
            yield f"its history tells {before} -> {after} while it was {current}"
        current = after
    if current != job["state"]:
        yield f"its history ends with {current}, its row says {job['state']}"


def _expectation_problems(lines: Iterable[ResultLine], expected: Mapping[str, Expected]) -> Iterator[str]:
    for line in lines:
        wanted = expected.get(line.custom_id)
        if wanted is None:
            continue
        got = Expected(line.status, line.code, line.body if line.status == "succeeded" else None)
        if not wanted.allows(got):
            yield f"item {line.custom_id!r} should be {wanted} and is {got}"


def _file_problems(job: RowMapping, parts: Sequence[RowMapping], files: Sequence[RowMapping]) -> Iterator[str]:
    if not Dialect(job["dialect"]).stores_openai_lines:
        return
    sizes = {file["id"]: file["size_bytes"] for file in files}
    output = sum(part["size_bytes"] for part in parts if part["outcome"] == "succeeded")
    error = sum(part["size_bytes"] for part in parts if part["outcome"] != "succeeded")
    for name, size_bytes in (("output_file_id", output), ("error_file_id", error)):
        if sizes.get(job[name], 0) != size_bytes:
            yield f"{name} is {job[name]} with {sizes.get(job[name])} bytes, its parts have {size_bytes}"
    if sizes.keys() != {job[name] for name in ("output_file_id", "error_file_id") if job[name]}:
        yield f"it has the files {sorted(sizes)} but names {job['output_file_id']} and {job['error_file_id']}"


def _stuck_problems(connection: Connection) -> Iterator[str]:
    ended = sorted(TERMINAL_JOB_STATES)
    overdue = """SELECT id, state FROM jobs WHERE NOT state = ANY(:ended) AND on_deadline = 'expire'
        AND deadline_at < now() - make_interval(secs => :grace)"""
    for row in _all(connection, overdue, ended=ended, grace=OVERDUE_GRACE_S):
        yield f"job {row['id']} is past its window and still {row['state']}"
    orphans = """SELECT c.id, c.state, j.id AS job_id, j.state AS job_state FROM chunks c JOIN jobs j ON j.id = c.job_id
        WHERE c.state IN ('pending', 'granted', 'running') AND j.state = ANY(:ended)"""
    for row in _all(connection, orphans, ended=ended):
        yield f"chunk {row['id']} is {row['state']} in job {row['job_id']}, which is {row['job_state']}"


def _lease_problems(connection: Connection) -> Iterator[str]:
    stale = """SELECT id, state, lease_holder FROM chunks WHERE
        (state = 'running' AND (lease_token IS NULL OR lease_until < now() - make_interval(secs => :grace)))
        OR (state <> 'running' AND lease_token IS NOT NULL)"""
    for row in _all(connection, stale, grace=LEASE_GRACE_S):
        yield f"chunk {row['id']} is {row['state']} under a lease of nobody (last: {row['lease_holder']})"
    nobodys = """SELECT c.id, c.lease_holder FROM chunks c LEFT JOIN workers w ON w.incarnation = c.lease_holder
        WHERE c.state = 'running' AND w.queue IS NULL AND c.claimed_at < now() - make_interval(secs => :grace)"""
    for row in _all(connection, nobodys, grace=LEASE_GRACE_S):
        yield f"chunk {row['id']} is leased to {row['lease_holder']}, which is no worker"


def _dead_letter_problems(connection: Connection) -> Iterator[str]:
    unexplained = "SELECT id, queue, reason FROM dead_letters WHERE task IS NULL OR reason = 'unknown'"
    for row in _all(connection, unexplained):
        yield f"dead letter {row['id']} of queue {row['queue']} is not explained"


def _referenced_keys(connection: Connection) -> list[tuple[str, str]]:
    named = """
        SELECT object_key, 'file ' || id AS owner FROM files
            WHERE object_key IS NOT NULL AND NOT swept AND deleted_at IS NULL AND expires_at > now()
        UNION ALL SELECT input_key, 'job ' || id FROM jobs WHERE NOT state = ANY(:ended)
        UNION ALL SELECT p.object_key, 'part ' || p.seq || ' of ' || p.job_id
            FROM result_parts p JOIN jobs j ON j.id = p.job_id WHERE NOT j.results_swept"""
    return [(row["object_key"], row["owner"]) for row in _all(connection, named, ended=sorted(TERMINAL_JOB_STATES))]


def _all(connection: Connection, statement: str, **values: Any) -> Sequence[RowMapping]:
    return connection.execute(text(statement), values).mappings().all()


def _one(connection: Connection, statement: str, **values: Any) -> RowMapping:
    return connection.execute(text(statement), values).mappings().one()
