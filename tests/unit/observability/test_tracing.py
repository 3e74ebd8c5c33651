"""What becomes a span, in this process and in forks of it, and what tracing costs where it is off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from otlp_receiver import OtlpReceiver, otlp_receiver

REQUIRED = (
    "DATABASE_URL",
    "BROKER_URL",
    "REDIS_URL",
    "S3_ENDPOINT",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "KEY_PEPPER",
)
BEGIN = """
from app.observability.tracing import close_tracing, init_tracing, span, stage, traceparent
from config.settings import load_settings
init_tracing(load_settings(), process="test")
"""
KEPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DROPPED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

Run = Callable[..., str]


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def _run(code: str, **variables: str) -> str:
    """Run a program of its own, for spans belong to a process; gives what it printed."""
    environ = {**os.environ, **{f"NIGHTSHIFT_{name}": "x" for name in REQUIRED}, **variables}
    done = subprocess.run([sys.executable, "-c", BEGIN + code], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run(collector: OtlpReceiver) -> Run:
    return lambda code, **variables: _run(code, **{"NIGHTSHIFT_OTLP_ENDPOINT": collector.endpoint, **variables})


def test_where_tracing_is_off_what_makes_and_sends_spans_is_not_even_imported() -> None:
    # The redis client brings OpenTelemetry's metrics along whenever they are installed.
    printed = _run(
        "import sys\n"
        "SPANS = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'app.observability.otlp')\n"
        "import app.factory, tasks.publisher, workers.dispatcher, workers.pipeline\n"
        "with span('a', job_id='job_1'), stage('b') as step:\n"
        "    step.note(n_items=1)\n"
        "    print(traceparent(), [name for name in sys.modules if name.startswith(SPANS)])\n"
    )
    assert printed == "None []\n"


def test_spans_and_their_stages_hang_together_and_bear_the_ids_of_the_log(collector: OtlpReceiver, run: Run) -> None:
    printed = run(
        "import structlog\n"
        "with structlog.contextvars.bound_contextvars(job_id='job_1', custom_id='a clients text'):\n"
        "    with span('outer', **{'http.route': '/v1/jobs'}), stage('step', n_items=3):\n"
        "        print(structlog.contextvars.get_contextvars()['trace_id'])\n"
    )
    step, outer = collector.spans
    assert (step.name, step.parent_id, step.attributes) == ("step", outer.span_id, {"nightshift.n_items": "3"})
    assert (outer.process, outer.parent_id) == ("nightshift-test", "")
    assert outer.attributes == {"nightshift.job_id": "job_1", "http.route": "/v1/jobs"}
    assert step.trace_id == outer.trace_id == printed.strip()


def test_a_span_goes_on_with_the_trace_it_belongs_to_unless_it_is_in_it_already(
    collector: OtlpReceiver, run: Run
) -> None:
    run(
        f"with span('task', parent='{KEPT}'):\n"
        f"    with span('chunk', parent='{KEPT}'):\n"
        "        pass\n"
        "with span('other'):\n"
        f"    with span('elsewhere', parent='{KEPT}'):\n"
        "        pass\n"
    )
    by_name = {each.name: each for each in collector.spans}
    of_trace = KEPT.split("-")[1]
    assert {name for name, each in by_name.items() if each.trace_id == of_trace} == {"task", "chunk", "elsewhere"}
    assert by_name["chunk"].parent_id == by_name["task"].span_id
    assert by_name["task"].parent_id == by_name["elsewhere"].parent_id == KEPT.split("-")[2]


def test_an_error_is_told_by_its_class_and_never_by_what_it_says(collector: OtlpReceiver, run: Run) -> None:
    run(
        "for make in (span, stage):\n"
        "    try:\n"
        "        with make('work'):\n"
        "            raise ValueError('a clients text')\n"
        "    except ValueError:\n"
        "        pass\n"
    )
    assert [(each.error, each.attributes) for each in collector.spans] == [
        ("ValueError", {"error.type": "ValueError"})
    ] * 2
    assert b"a clients text" not in b"".join(collector.bodies)


def test_a_process_forked_after_its_parent_traced_sends_its_own(collector: OtlpReceiver, run: Run) -> None:
    run(
        "import os\n"
        "with span('parent'):\n"
        "    pass\n"
        "if (child := os.fork()) == 0:\n"
        "    with span('child'):\n"
        "        pass\n"
        "    close_tracing()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    assert sorted(each.name for each in collector.spans) == ["child", "parent"]


def test_what_is_sampled_is_decided_where_a_trace_begins(collector: OtlpReceiver, run: Run) -> None:
    run(
        f"for name, parent in [('own', None), ('kept', '{KEPT}'), ('dropped', '{DROPPED}')]:\n"
        "    with span(name, parent=parent):\n"
        "        pass\n",
        NIGHTSHIFT_TRACES_SAMPLED_RATIO="0",
    )
    assert [each.name for each in collector.spans] == ["kept"]


@pytest.mark.parametrize("parent", ["", "garbage", "00-0-0-01", f"00-{'0' * 32}-{'0' * 16}-01", "\U0001f600"])
def test_a_parent_that_is_none_begins_a_trace(collector: OtlpReceiver, run: Run, parent: str) -> None:
    run(f"with span('root', parent={parent!r}):\n    pass\n")
    (root,) = collector.spans
    assert root.parent_id == ""


def test_a_collector_that_is_away_stops_nobody() -> None:
    printed = _run(
        "with span('lost'):\n    pass\nclose_tracing()\nprint('done')\n", NIGHTSHIFT_OTLP_ENDPOINT="http://127.0.0.1:9"
    )
    assert printed == "done\n"
