"""The real servers and the whole stack, started once where a test asks for them.

``servers``: PostgreSQL, RabbitMQ, Redis and S3, migrated, none of Nightshift's processes. Its settings are in the
environment, so ``load_settings()`` finds it. For tests that are the process.

``stack``: everything, in another folder. For tests that are the client.

While developing, keep both running: ``NIGHTSHIFT_TEST_SERVERS_HOME`` and ``NIGHTSHIFT_TEST_HOME`` name folders of
stacks that were started before (``NIGHTSHIFT_HOME=/tmp/s make up``); those are used and left running. The whole stack
must serve the tiny models: first ``export NIGHTSHIFT_MODELS_FILE=$(.venv/bin/python tests/tiny_models.py /tmp/tiny)``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nightshift_local.home import Home
from nightshift_local.stack import Stack
from running_stack import RunningStack
from tiny_models import make_tiny_models

TESTS_OF_THE_STACK = Path(__file__).parent / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests of the whole stack run beside all the others, so that no server is started twice."""
    for item in items:
        beside = "stack" if item.path.is_relative_to(TESTS_OF_THE_STACK) else "the rest"
        item.add_marker(pytest.mark.xdist_group(beside))


def _say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _private_stack(variable: str, *, servers_only: bool) -> Iterator[Stack]:
    """The stack that a variable names, or a fresh one in a short-lived folder."""
    kept = os.environ.get(variable)
    # Not pytest's tmp_path: its long names leave too little room for unix sockets.
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="nightshift-test-"))
    stack = Stack(Home(folder.resolve()), _say)
    try:
        stack.up(servers_only=servers_only)
        yield stack
    finally:
        if not kept:
            stack.down()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, str]]:
    """The backing servers; gives the settings that reach them."""
    with (
        _private_stack("NIGHTSHIFT_TEST_SERVERS_HOME", servers_only=True) as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        stack.prepare_servers()
        settings = RunningStack(stack).settings
        for name, value in settings.items():
            patch.setenv(name, value)
        yield settings


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The whole stack, which serves the tiny models beside the default ones."""
    with pytest.MonkeyPatch.context() as patch:
        if "NIGHTSHIFT_TEST_HOME" not in os.environ:
            patch.setenv("NIGHTSHIFT_MODELS_FILE", str(make_tiny_models(tmp_path_factory.mktemp("tiny-models"))))
        with _private_stack("NIGHTSHIFT_TEST_HOME", servers_only=False) as stack:
            yield RunningStack(stack)


@pytest.fixture
def stack(running_stack: RunningStack) -> RunningStack:
    """The whole stack, mended where an earlier test left something broken."""
    running_stack.wait_until_ready()
    return running_stack
