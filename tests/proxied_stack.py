"""A whole stack whose processes reach their backing servers only through proxies that can be told to misbehave."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.fault_proxy import FaultProxy
from nightshift_local.home import Home
from nightshift_local.ports import read_ports
from nightshift_local.program import shell_exports
from nightshift_local.stack import Stack
from running_stack import RunningStack

from config.settings import read_shell_variables

PORT_NAMES = {"postgres": "postgres", "rabbitmq": "rabbitmq", "redis": "redis", "s3": "s3_s3"}


@dataclass(frozen=True)
class ProxiedStack(RunningStack):
    """A running stack and the proxies in front of its servers; its ``settings`` go past them."""

    proxies: Mapping[str, FaultProxy]
    direct_settings: Mapping[str, str]

    @property
    def settings(self) -> dict[str, str]:  # type: ignore[override]  # a property is a property
        """What reaches the servers themselves, for the test's own looks."""
        return dict(self.direct_settings)


@contextmanager
def proxied_stack(**overrides: str) -> Iterator[ProxiedStack]:
    """A fresh stack in a short-lived folder.

    Args:
        overrides: further settings of Nightshift's processes, ``NIGHTSHIFT_CHUNK_MAX_ITEMS="4"``.
    """
    folder = Path(tempfile.mkdtemp(prefix="nightshift-chaos-"))
    stack = Stack(Home(folder.resolve()), lambda line: print(line, flush=True))
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        cleanup.callback(stack.down)
        stack.up(servers_only=True)
        ports = read_ports(stack.home)
        proxies = {
            server: cleanup.enter_context(FaultProxy(ports[port_name])) for server, port_name in PORT_NAMES.items()
        }
        direct = read_shell_variables(stack.home.settings_file.read_text(encoding="utf-8"))
        through = {name: _redirected(value, ports, proxies) for name, value in direct.items()}
        stack.home.write_private(stack.home.settings_file, shell_exports({**through, **overrides}))
        stack.up()
        yield ProxiedStack(stack, proxies, direct)


def _redirected(value: str, ports: Mapping[str, int], proxies: Mapping[str, FaultProxy]) -> str:
    """A setting that names a server's port, with the proxy's instead."""
    for server, port_name in PORT_NAMES.items():
        value = value.replace(f"127.0.0.1:{ports[port_name]}", f"127.0.0.1:{proxies[server].port}")
    return value
