"""A whole stack that runs while tests look at it, break it and wait for it to mend."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
from nightshift_local.rabbitmq_install import find_rabbitmq
from nightshift_local.stack import Stack, read_env

POLL_S = 0.1


@dataclass(frozen=True)
class RunningStack:
    """What a test may know of a stack, and do to it."""

    stack: Stack

    @cached_property
    def env(self) -> dict[str, str]:
        """What a client needs: the content of ``.nightshift/env``."""
        return read_env(self.stack.home.env_file)

    @cached_property
    def settings(self) -> dict[str, str]:
        """What Nightshift's processes read: ``Settings.from_environ(stack.settings)``."""
        return read_env(self.stack.home.settings_file)

    @property
    def url(self) -> str:
        """The API, without a slash at the end."""
        return self.env["NIGHTSHIFT_URL"]

    @property
    def api_key(self) -> str:
        """The tenant demo's key."""
        return self.env["NIGHTSHIFT_API_KEY"]

    @property
    def admin_key(self) -> str:
        """The key for ``/v1/admin``."""
        return self.env["NIGHTSHIFT_ADMIN_KEY"]

    def client(self, api_key: str | None = None, **options: Any) -> httpx.Client:
        """An HTTP client that sends a key; the tenant demo's unless told."""
        headers = {"Authorization": f"Bearer {api_key or self.api_key}"}
        return httpx.Client(base_url=self.url, headers=headers, **{"timeout": 30, **options})

    def new_key(self, tenant: str) -> str:
        """A fresh key of a tenant, which is made where it is new."""
        with self.client(self.admin_key) as client:
            answer = client.post("/v1/admin/keys", json={"tenant": tenant}).raise_for_status()
        return str(answer.json()["key"])

    def pids(self) -> dict[str, int]:
        """Name -> pid of every process that runs."""
        return {state.name: state.pid for state, _ in self.stack.states() if state.pid}

    def pid(self, name: str) -> int:
        """The pid of one process, from its pid file."""
        return int((self.stack.home.pids / f"{name}.pid").read_text(encoding="utf-8"))

    def log(self, name: str) -> str:
        """The log of one process, whole."""
        return (self.stack.home.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def kill(self, name: str, signal_number: int = signal.SIGKILL) -> int:
        """Send a signal, SIGKILL unless told, and return the pid it went to."""
        pid = self.pid(name)
        os.kill(pid, signal_number)
        return pid

    def restart(self, name: str) -> None:
        """Stop a process cleanly and start it again."""
        self.stack.restart(name)

    def wait_for_new_pid(self, name: str, old_pid: int, *, timeout_s: float = 30) -> int:
        """Wait until a process was started again and has written its pid."""
        self.wait_until(lambda: self.pid(name) != old_pid, timeout_s=timeout_s, what=f"new pid of {name}")
        return self.pid(name)

    def wait_until_ready(self, *, timeout_s: float = 60) -> None:
        """Wait until the API says that every backing service answers."""
        self.wait_until(self._is_ready, timeout_s=timeout_s, what="/readyz")

    def rabbitmqctl(self) -> tuple[list[str], dict[str, str]]:
        """Command and environment of this stack's ``rabbitmqctl``."""
        found = find_rabbitmq()
        assert found is not None, "this stack runs without RabbitMQ"
        return [str(found.control)], {**os.environ, **self.stack.broker_environment()}

    @staticmethod
    def wait_until(holds: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """Ask again and again until it holds."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
            time.sleep(POLL_S)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False
