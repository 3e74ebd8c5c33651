"""Jobs, chunks, leases and outcomes as a state machine that hypothesis turns, over the real Postgres and object store.

Each rule is something that may happen at any time: a message is delivered, twice, or lost; a worker claims, finishes,
dies, is told to leave, or freezes and wakes after somebody took over; leases and windows run out; a client cancels, or
retries what has ended.
After each step the rows must add up. In the end everything heals, and every item must have its one outcome.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Any

from core_machine import CoreMachine, Row
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from seeded_work import Expected, SeededItem, bad_body, crashing, failing, good, healed, retried

from app.domain.items import ItemOutcome
from app.domain.retry_plan import RETRIED_OUTCOMES
from app.domain.states import TERMINAL_JOB_STATES
from app.errors import StateConflict
from app.ports import Grant, ItemRunner, RunRequest
from app.services.cancel_job import cancel_job
from app.services.pause_job import pause_job
from app.services.resume_job import resume_job
from app.services.retry_job import retry_job
from app.services.run_chunk import Ran, run_chunk

QUEUES = ("cpu.0", "cpu.1")
KINDS: dict[str, Callable[[str], SeededItem]] = {
    "good": good,
    "retried": retried,
    "retried_for_ever": lambda name: failing(name, code="rate_limited"),
    "failing": failing,
    "healed": healed,
    "bad_body": bad_body,
    "crashing": crashing,
}
MOST_JOBS = 4
MOST_RUNS = 4
AT_ONCE_S = 20

picks = st.integers(min_value=0, max_value=97)
retried_outcomes = st.sets(st.sampled_from(RETRIED_OUTCOMES), min_size=1)
items = st.lists(st.sampled_from([*KINDS, "good", "good"]), min_size=3, max_size=8)


class WorkerDied(BaseException):
    """Ends a run as SIGKILL would: nothing of ours gets to see it."""


class End(StrEnum):
    """How a held run goes on."""

    FINISHES = "finishes"
    RAISES = "raises"
    DIES = "dies"
    LEAVES_AT_ONCE = "leaves_at_once"
    LEAVES_AFTER_ONE = "leaves_after_one"


class Mortal:
    """The engines, except that an item which would kill this process only ends its run."""

    def __init__(self, runner: ItemRunner, death: type[BaseException]) -> None:
        self._runner = runner
        self._death = death

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        read = list(request.items)
        if any(item.body.get("echo", {}).get("crash") for item in read):
            raise self._death
        yield from self._runner.run(replace(request, items=iter(read)))


class HeldRun:
    """One delivery of a chunk's message, run in a thread and held between its claim and its first item."""

    def __init__(self, core: CoreMachine, grant: Grant, *, holder: str) -> None:
        self.grant = grant
        self.ended: Ran | None = None
        self._core = core
        self._holder = holder
        self._end = End.FINISHES
        self._leaves = False
        self._runner = Mortal(core.runner, WorkerDied)
        self._at_rest, self._may_go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        assert self._at_rest.wait(AT_ONCE_S), "the run neither began nor ended"

    @property
    def is_held(self) -> bool:
        return self._thread.is_alive() and not self._may_go_on.is_set()

    def let_go(self, end: End) -> None:
        self._end = end
        self._may_go_on.set()
        self._thread.join(AT_ONCE_S)
        assert not self._thread.is_alive(), "the run does not end"

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        """As an ``ItemRunner``."""
        self._at_rest.set()
        assert self._may_go_on.wait(10 * AT_ONCE_S)
        if self._end is End.DIES:
            raise WorkerDied
        if self._end is End.RAISES:
            raise RuntimeError("segmentation fault, as it were")
        outcomes = list(self._runner.run(request))
        self._leaves = self._end in {End.LEAVES_AT_ONCE, End.LEAVES_AFTER_ONE}
        yield from outcomes if not self._leaves else outcomes[: int(self._end is End.LEAVES_AFTER_ONE)]

    def _work(self) -> None:
        try:
            self.ended = run_chunk(
                wiring=self._core.wiring,
                runner=self,
                chunk_id=self.grant.chunk_id,
                queue=self.grant.queue,
                holder=self._holder,
                is_leaving=lambda: self._leaves,
            )
        except WorkerDied:
            return
        finally:
            self._at_rest.set()


class CoreStates(RuleBasedStateMachine):
    """See the module."""

    def __init__(self, core: CoreMachine) -> None:
        super().__init__()
        self.core = core
        self.jobs: dict[str, list[SeededItem]] = {}
        self.runs: list[HeldRun] = []
        self.incarnations = dict.fromkeys(QUEUES, 1)
        self.closed: dict[tuple[str, Any], Row] = {}
        core.publisher.waves.clear()

    # -- what happens when all is well

    @initialize(first=items, second=items)
    def begin(self, first: list[str], second: list[str]) -> None:
        for kinds in (first, second):
            self.submit(kinds, max_attempts=3, is_planned=True)
        self.look(silent=None)

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(kinds=items, max_attempts=st.sampled_from([1, 3]), is_planned=st.booleans())
    def submit(self, kinds: list[str], max_attempts: int, is_planned: bool) -> None:  # noqa: FBT001 - by name
        items = [_item(kind, f"{place}-{kind}", max_attempts) for place, kind in enumerate(kinds)]
        job_id = self.core.submit(items, max_attempts=max_attempts)
        self.jobs[job_id] = items
        if is_planned:
            self.core.prepare(job_id)

    @rule(silent=st.sampled_from([None, None, None, *QUEUES]))
    def look(self, silent: str | None) -> None:
        """The dispatcher looks after a while, when every worker, or all but one, was heard of.

        A while is long enough for every pause and patience, and too short for leases and windows.
        """
        self.core.patience_ends()
        for job_id in self.jobs:
            self.core.waiting_is_over(job_id)
        for queue in QUEUES:
            self.core.worker_lives(queue, self._holder(queue))
        self.core.sql("UPDATE workers SET seen_at = now() - interval '1 hour' WHERE queue = :q", q=silent)
        self.core.look()
        publisher = self.core.publisher
        publisher.waves = [(job_id, [grant]) for job_id, grants in publisher.waves for grant in grants]

    @precondition(lambda self: len(self.runs) < MOST_RUNS)
    @rule(pick=picks, comes_again=st.sampled_from([False, False, True]))
    def deliver(self, pick: int, comes_again: bool) -> None:  # noqa: FBT001 - by name
        if not self.core.publisher.waves:
            self.look(silent=None)
        if self.core.publisher.waves:
            self._begin(self._message(pick, stays=comes_again))

    # -- what happens to a run

    @precondition(lambda self: self.runs)
    @rule(pick=picks, end=st.sampled_from([*End, End.FINISHES, End.FINISHES, End.LEAVES_AFTER_ONE]))
    def run_ends(self, pick: int, end: End) -> None:
        self.runs.pop(pick % len(self.runs)).let_go(end)

    @precondition(lambda self: 0 < len(self.runs) < MOST_RUNS)
    @rule(pick=picks, is_new_process=st.booleans())
    def message_comes_back(self, pick: int, is_new_process: bool) -> None:  # noqa: FBT001 - by name
        """To the worker that still runs the chunk, or to its successor while it is not quite dead."""
        grant = self._run(pick).grant
        self.incarnations[grant.queue] += int(is_new_process)
        self._begin(grant)

    @precondition(lambda self: self.runs)
    @rule(pick=picks, is_seen=st.booleans())
    def lease_runs_out(self, pick: int, is_seen: bool) -> None:  # noqa: FBT001 - by name
        """Of a worker that is frozen; the dispatcher sees it before the worker wakes, or not."""
        self.core.lease_runs_out(self._run(pick).grant.chunk_id)
        if is_seen:
            self.look(silent=None)

    # -- what happens to a job, or to a message

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, order=st.sampled_from(["cancel", "close the window", "pause", "resume", "resume"]))
    def job_is_steered(self, pick: int, order: str) -> None:
        job_id = self._job(pick)
        orders = {"cancel": cancel_job, "pause": pause_job, "resume": resume_job}
        if order not in orders:
            self.core.window_closes(job_id)
            return
        before = self.core.job(job_id).state
        try:
            orders[order](wiring=self.core.wiring, tenant_id=self.core.tenant_id, job_id=job_id)
        except StateConflict:
            assert self.core.job(job_id).state is before, "what was refused had an effect"

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, include=retried_outcomes, is_planned=st.booleans())
    def job_is_retried(self, pick: int, include: set[str], is_planned: bool) -> None:  # noqa: FBT001 - by name
        job_id = self._job(pick)
        before = self.core.job(job_id)
        try:
            retry_job(wiring=self.core.wiring, tenant_id=self.core.tenant_id, job_id=job_id, include=include)
        except StateConflict:
            assert self.core.job(job_id) == before, "what was refused had an effect"
            return
        assert before.state in TERMINAL_JOB_STATES
        self.closed.pop(("job", job_id), None)
        if is_planned:
            self.core.prepare(job_id)

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, task=st.sampled_from(["prepare", "finish"]))
    def control_message_comes(self, pick: int, task: str) -> None:
        """Early, late or again."""
        act = self.core.prepare if task == "prepare" else self.core.finish
        act(self._job(pick))

    @precondition(lambda self: self.core.publisher.waves)
    @rule(pick=picks)
    def message_is_lost(self, pick: int) -> None:
        self._message(pick, stays=False)

    # -- what holds after each step

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """The items of a job are exactly those that its chunks wait for, run, or have closed, or a retry took over."""
        wrong = self.core.sql(
            """WITH held AS (SELECT j.id, j.state, j.n_items,
                   sum(c.n_items) FILTER (WHERE c.state NOT IN ('done', 'split') AND c.retried_in IS NULL) AS n_open,
                   sum(c.n_succeeded) AS n_succeeded,
                   sum(c.n_failed) FILTER (WHERE c.retried_in IS NULL) AS n_failed,
                   sum(CASE c.state WHEN 'done' THEN c.n_failed ELSE c.n_items END)
                       FILTER (WHERE c.retried_in = j.attempt_runs AND j.queued_at IS NULL) AS n_to_plan
               FROM jobs j JOIN chunks c ON c.job_id = j.id WHERE j.id = ANY(:ids) GROUP BY j.id)
               SELECT * FROM held WHERE n_items <>
                   coalesce(n_open, 0) + n_succeeded + coalesce(n_failed, 0) + coalesce(n_to_plan, 0)""",
            ids=list(self.jobs),
        )
        assert not wrong, wrong

    @invariant()
    def parts_hold_what_their_chunks_counted(self) -> None:
        wrong = self.core.sql(
            """SELECT c.id, c.state, c.n_succeeded, c.n_failed, p.outcome, p.n_items FROM chunks c
               LEFT JOIN result_parts p ON p.chunk_id = c.id WHERE c.job_id = ANY(:ids)
               GROUP BY c.id, p.outcome, p.n_items, p.object_key
               HAVING (p.outcome = 'succeeded' AND p.n_items <> c.n_succeeded)
                   OR (p.outcome = 'failed' AND p.n_items <> c.n_failed)
                   OR (p.outcome IS NOT NULL AND c.state <> 'done')
                   OR p.object_key NOT LIKE '%/' || c.id || '-' || c.attempt || '-%'
                   OR (p.outcome IS NULL AND c.n_succeeded + c.n_failed > 0)""",
            ids=list(self.jobs),
        )
        assert not wrong, wrong

    @invariant()
    def only_running_chunks_are_leased(self) -> None:
        wrong = self.core.sql(
            "SELECT id, state, lease_token FROM chunks"
            " WHERE job_id = ANY(:ids) AND (state = 'running') <> (lease_token IS NOT NULL)",
            ids=list(self.jobs),
        )
        assert not wrong, wrong

    @invariant()
    def what_is_left_of_a_job_is_what_its_chunks_say(self) -> None:
        wrong = self.core.sql(
            """SELECT j.id, j.state, j.remaining_tokens FROM jobs j JOIN chunks c ON c.job_id = j.id
               WHERE j.id = ANY(:ids) GROUP BY j.id HAVING j.remaining_tokens <> coalesce(
                   sum(c.estimated_tokens) FILTER (WHERE c.state IN ('pending', 'granted', 'running')), 0)""",
            ids=list(self.jobs),
        )
        assert not wrong, wrong

    @invariant()
    def what_is_closed_stays_closed(self) -> None:
        """A terminal job, a terminal chunk and a part never change again; but for a retry of the job."""
        ended = self.core.sql(
            "SELECT * FROM jobs WHERE id = ANY(:ids) AND state = ANY(:ended)",
            ids=list(self.jobs),
            ended=sorted(TERMINAL_JOB_STATES),
        )
        chunks = self.core.sql(
            "SELECT id, state, attempt, n_succeeded, n_failed, n_deferred FROM chunks"
            " WHERE job_id = ANY(:ids) AND state IN ('done', 'split', 'cancelled', 'expired')",
            ids=list(self.jobs),
        )
        parts = self.core.sql("SELECT * FROM result_parts WHERE job_id = ANY(:ids)", ids=list(self.jobs))
        now = {
            # The test itself moves deadlines; what a retry supersedes is compared by the checker.
            (kind, row["id"]): {**row, "deadline_at": None, "changed_in": None, "superseded_in": None}
            for kind, rows in (("job", ended), ("chunk", chunks), ("part", parts))
            for row in rows
        }
        assert {key: now.get(key) for key in self.closed} == self.closed
        self.closed = now

    # -- the end

    def teardown(self) -> None:
        """Let everything heal: every job must end, and every promise hold."""
        for run in self.runs:
            run.let_go(End.FINISHES)
        self.runs.clear()
        for job_id in self.jobs:
            with suppress(StateConflict):
                resume_job(wiring=self.core.wiring, tenant_id=self.core.tenant_id, job_id=job_id)
        healed = replace(self.core, runner=Mortal(self.core.runner, RuntimeError))
        self.core.sql("UPDATE chunks SET lease_until = now() - interval '1 second' WHERE state = 'running'")
        self.core.patience_ends()
        for job_id, items in self.jobs.items():
            healed.prepare(job_id)
            healed.drive(job_id)
            self.core.checker.check_job(job_id)
            self._check_outcomes(job_id, items)

    def _check_outcomes(self, job_id: str, items: Sequence[SeededItem]) -> None:
        """Each item as it was seeded; but one on which workers died by other causes may stand convicted."""
        expected = {item.custom_id: replace(item.expected, may_be_stopped=True) for item in items}
        most_deaths = max(chunk["worker_deaths"] for chunk in self.core.chunks(job_id))
        for custom_id, line in self.core.checker.results(job_id).items():
            got = Expected(line.status, line.code, line.body)
            if custom_id.endswith("healed") and line.attempts == 1 and line.status == "failed":
                expected[custom_id] = Expected("failed", "context_length_exceeded")
            convicted = line.code == "worker_crash" and most_deaths >= self.core.wiring.settings.max_worker_deaths
            assert convicted or expected[custom_id].allows(got), (custom_id, got)

    # -- choosing

    def _begin(self, grant: Grant) -> None:
        run = HeldRun(self.core, grant, holder=self._holder(grant.queue))
        if run.is_held:
            self.runs.append(run)

    def _run(self, pick: int) -> HeldRun:
        return self.runs[pick % len(self.runs)]

    def _job(self, pick: int) -> str:
        return list(self.jobs)[pick % len(self.jobs)]

    def _message(self, pick: int, *, stays: bool) -> Grant:
        waves = self.core.publisher.waves
        place = pick % len(waves)
        (grant,) = waves[place][1]
        if not stays:
            waves.pop(place)
        return grant

    def _holder(self, queue: str) -> str:
        return f"{queue}-{self.incarnations[queue]}"


def _item(kind: str, name: str, max_attempts: int) -> SeededItem:
    """An item as it ends after so many attempts."""
    return failing(name, code="rate_limited") if kind == "retried" and max_attempts == 1 else KINDS[kind](name)
