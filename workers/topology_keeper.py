"""A thread of the dispatcher that keeps the broker's topology while the dispatcher leads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from app.errors import BrokerUnavailable
from app.services.keep_topology import keep_topology
from config.settings import Settings

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0


class TopologyKeeper:
    """Looks at the broker every few seconds; a thread of its own, so that no grant waits for a management API."""

    def __init__(self, settings: Settings, *, leads: Callable[[], bool]) -> None:
        self._settings = settings
        self._leads = leads
        self._stopping = threading.Event()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="topology", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            if self._leads():
                self._look()

    def _look(self) -> None:
        problem = None
        try:
            keep_topology(settings=self._settings)
        except BrokerUnavailable as error:
            problem = error.message
        if problem is not None and problem != self._problem:  # an outage is told once
            log.warning("topology_unknown", reason=problem)
        self._problem = problem
