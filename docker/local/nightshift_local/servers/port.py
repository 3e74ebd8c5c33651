"""What the stack asks of a backing server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nightshift_local.program import Program


class Server(Protocol):
    """One backing server of the stack."""

    @property
    def name(self) -> str:
        """Its name in ``make ps`` and of its log."""

    @property
    def starts_within_s(self) -> float:
        """How long it may take to answer on a slow machine."""

    def prepare(self) -> None:
        """Write its configuration and, the first time, its data folder.

        Raises:
            StackError: a needed program is missing or refuses to run.
        """

    def programs(self) -> Sequence[Program]:
        """The processes to supervise, in the order of their start; the last one carries the server's name."""

    def probe(self) -> None:
        """Ask for something that only a server ready for work can answer.

        Raises:
            NotReady: not yet; says what was met.
        """

    def settings(self) -> dict[str, str]:
        """The environment variables through which Nightshift finds it."""
