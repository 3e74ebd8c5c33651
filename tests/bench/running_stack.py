"""A stack of the bench's own, in a folder of its own, stopped whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nightshift_local.home import Home
from nightshift_local.stack import Stack, read_env


@dataclass(frozen=True, slots=True)
class Address:
    """Where the stack answers."""

    url: str
    api_key: str


@contextmanager
def running_stack(folder: Path, *, say: Callable[[str], None]) -> Iterator[Address]:
    """Start every server and process in ``folder``; stop them at the end."""
    stack = Stack(Home(folder), say)
    try:
        stack.up()
        env = read_env(stack.home.env_file)
        yield Address(env["NIGHTSHIFT_URL"], env["NIGHTSHIFT_API_KEY"])
    finally:
        stack.down()
