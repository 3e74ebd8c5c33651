"""Validating and planning on the real store: refusals name their lines, nothing runs, nothing grows with the file."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import orjson
import pytest
from core_machine import CoreMachine
from seeded_work import good, input_file, mixed

from app.domain.jobs import Dialect
from app.domain.states import JobState
from app.errors import ObjectMissing, StorageUnavailable
from app.ports import ObjectReader
from app.services.preparation import Prepared
from app.services.prepare_job import MOST_ATTEMPTS
from app.services.sweep_expired import sweep_expired


def refusal(core: CoreMachine, content: bytes, dialect: Dialect = Dialect.OPENAI) -> list[tuple[int | None, str]]:
    """Prepare an input that must be refused; gives (line, code) of its problems."""
    job_id = core.submit_content(content, dialect=dialect)
    assert core.prepare(job_id) is Prepared.REFUSED
    job = core.job(job_id)
    assert (job.state, core.chunks(job_id)) == (JobState.FAILED, [])
    assert job.failure is not None
    assert job.finished_at is not None
    core.checker.check_job(job_id)
    return [(problem["line"], problem["code"]) for problem in job.validation_errors]


def test_a_plan_covers_every_item_once(core: CoreMachine) -> None:
    items = mixed(103, seed=1)
    chunks = core.chunks(core.planned(items))
    assert sum(chunk["n_items"] for chunk in chunks) == len(items)
    first_indexes = [chunk["first_index"] for chunk in chunks]
    assert first_indexes == [sum(chunk["n_items"] for chunk in chunks[:place]) for place in range(len(chunks))]


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (b"", [(None, "empty_file")]),
        (b"\xef\xbb\xbf", [(None, "empty_file")]),
        (b"\n\n\r\n  \n", [(None, "empty_file")]),
        (b"not json\n", [(1, "invalid_json_line")]),
        (b"\x00\x01\x02", [(1, "invalid_json_line")]),
        (b"\xff\xfe{\x00}\x00", [(1, "invalid_json_line")]),
        (b"\x1f\x8b\x08\x00\x00\x00" + b"\x00" * 100, [(1, "invalid_json_line")]),
    ],
    ids=["nothing", "a mark", "blanks", "text", "binary", "utf-16", "gzip"],
)
def test_a_file_that_is_no_jsonl_is_refused(
    core: CoreMachine, content: bytes, problems: list[tuple[int | None, str]]
) -> None:
    assert refusal(core, content) == problems


def test_every_bad_line_is_named(core: CoreMachine) -> None:
    lines = input_file([good(str(number)) for number in range(6)], endpoint="/v1/echo").splitlines()
    lines[1], lines[3], lines[5] = b"{", b"", lines[0]
    assert refusal(core, b"\n".join(lines)) == [
        (2, "invalid_json_line"),
        (4, "invalid_json_line"),
        (6, "duplicate_custom_id"),
    ]


def test_a_model_that_nobody_serves_refuses_a_batch(core: CoreMachine) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "nobody\u0000", "input": "x"}}
    assert refusal(core, orjson.dumps(line)) == [(1, "model_not_found")]


def test_too_many_lines_are_refused_as_soon_as_they_are_counted(core: CoreMachine) -> None:
    few = replace(core, wiring=replace(core.wiring, settings=replace(core.wiring.settings, max_job_items=3)))
    content = input_file([good(str(number)) for number in range(4)], endpoint="/v1/echo")
    assert refusal(few, content) == [(None, "too_many_requests_in_file")]


@pytest.mark.parametrize("line_bytes", [64 * 1024 * 1024, 1024 * 1024], ids=["one long line", "long blank lines"])
def test_memory_does_not_grow_with_the_file(core: CoreMachine, line_bytes: int) -> None:
    job_id = core.submit_content((b" " * (line_bytes - 1) + b"\n") * (64 * 1024 * 1024 // line_bytes))
    tracemalloc.start()
    core.prepare(job_id)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert core.job(job_id).state is JobState.FAILED
    assert peak_bytes < 32 * 1024 * 1024


def test_preparing_many_times_at_once_plans_once(core: CoreMachine) -> None:
    job_id = core.submit([good(str(number)) for number in range(9)])
    with ThreadPoolExecutor(4) as pool:
        prepared = list(pool.map(lambda _: core.prepare(job_id), range(4)))
    assert sorted(prepared) == sorted([Prepared.PLANNED, *[Prepared.NOT_NEEDED] * 3])
    assert sum(chunk["n_items"] for chunk in core.chunks(job_id)) == 9


def test_a_planner_that_died_is_followed_by_another_when_its_time_is_over(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    core.sql(
        "UPDATE jobs SET prepare_token = 'dead', prepare_until = now() + interval '1 minute' WHERE id = :id", id=job_id
    )
    assert core.prepare(job_id) is Prepared.NOT_NEEDED
    core.sql("UPDATE jobs SET prepare_until = now() - interval '1 second' WHERE id = :id", id=job_id)
    assert core.prepare(job_id) is Prepared.PLANNED


class _AwayStore:
    """The real store, which does not answer when it is read."""

    def __init__(self, core: CoreMachine, act: object = None) -> None:
        self._storage = core.wiring.storage
        self._act = act

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def open(self, *_args: object, **_kwargs: object) -> ObjectReader:
        raise StorageUnavailable("the object store does not answer")


def test_a_store_that_is_away_for_long_costs_an_accepted_job_nothing(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    away = replace(core, wiring=replace(core.wiring, storage=_AwayStore(core)))
    for _ in range(MOST_ATTEMPTS + 2):
        with pytest.raises(StorageUnavailable):
            away.prepare(job_id)
    assert core.job(job_id).state is JobState.VALIDATING
    assert core.prepare(job_id) is Prepared.PLANNED


def test_an_input_on_which_planners_die_fails_in_the_end(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    core.sql("UPDATE jobs SET prepare_attempts = :most WHERE id = :id", most=MOST_ATTEMPTS, id=job_id)
    assert core.prepare(job_id) is Prepared.REFUSED
    assert core.job(job_id).state is JobState.FAILED


def test_the_inline_input_of_a_refused_job_is_swept_in_the_end(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    core.sql("UPDATE jobs SET prepare_attempts = :most WHERE id = :id", most=MOST_ATTEMPTS, id=job_id)
    core.prepare(job_id)
    core.sql("UPDATE jobs SET results_expire_at = results_expire_at - interval '31 days' WHERE id = :id", id=job_id)
    sweep_expired(wiring=core.wiring)
    with pytest.raises(ObjectMissing), core.wiring.storage.open(core.job(job_id).input_key):
        pass


def test_a_planner_that_was_overtaken_writes_nothing(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])

    class Overtaken(_AwayStore):
        """Another planner takes over while this one opens the input."""

        def open(self, *args: object, **kwargs: object) -> ObjectReader:
            core.sql("UPDATE jobs SET prepare_until = now() - interval '1 second' WHERE id = :id", id=job_id)
            assert core.prepare(job_id) is Prepared.PLANNED
            return self._storage.open(*args, **kwargs)  # type: ignore[arg-type, return-value]

    slow = replace(core, wiring=replace(core.wiring, storage=Overtaken(core)))
    assert slow.prepare(job_id) is Prepared.LOST
    assert sum(chunk["n_items"] for chunk in core.chunks(job_id)) == 1


def test_an_input_that_is_gone_fails_its_job_with_a_reason(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    core.wiring.storage.delete([core.job(job_id).input_key])
    assert core.prepare(job_id) is Prepared.REFUSED
    assert "gone" in (core.job(job_id).failure or {})["message"]


def test_a_pool_is_chosen_by_the_model_even_when_a_later_line_names_it(core: CoreMachine) -> None:
    lines = [{"custom_id": "a", "body": []}, {"custom_id": "b", "body": {"model": "echo", "input": "x"}}]
    echo = replace(core.wiring.models["echo"], pools=("gpu",))
    settings = replace(core.wiring.settings, queues=("cpu.0", "gpu.0"))
    split = replace(core, wiring=replace(core.wiring, models={"echo": echo}, settings=settings))
    job_id = split.submit_content(b"\n".join(map(orjson.dumps, lines)), dialect=Dialect.NATIVE)
    assert split.prepare(job_id) is Prepared.PLANNED
    assert core.job(job_id).pool == "gpu"
