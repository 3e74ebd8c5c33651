"""What is measured: a stack of the bench's own, stopped whatever happens, or one that runs already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nightshift_local.home import Home
from nightshift_local.stack import Stack, read_env

from config.settings import load_client_settings


@dataclass(frozen=True, slots=True)
class Address:
    """Where an installation answers."""

    url: str
    api_key: str


@contextmanager
def own_stack(folder: Path, *, say: Callable[[str], None]) -> Iterator[Address]:
    """Start every server and process in ``folder``; stop them at the end."""
    stack = Stack(Home(folder), say)
    try:
        stack.up()
        env = read_env(stack.home.env_file)
        yield Address(env["NIGHTSHIFT_URL"], env["NIGHTSHIFT_API_KEY"])
    finally:
        stack.down()


def known_address() -> Address:
    """The installation that the command line would speak to."""
    settings = load_client_settings()
    return Address(settings.url, settings.api_key)
