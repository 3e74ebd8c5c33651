"""Free ports on loopback, chosen once and remembered, so that a stack keeps its addresses."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterable, Mapping

from nightshift_local.errors import StackError
from nightshift_local.home import Home

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral range (32768 up): no outgoing connection takes a port while its server restarts.
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
_ATTEMPTS = 500


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def assign_ports(home: Home, names: Iterable[str]) -> dict[str, int]:
    """Give every name a port that is free now: the configured one, else the remembered one, else a fresh one.

    ``NIGHTSHIFT_PORT_REDIS=6390`` sets the port named ``redis``.

    Raises:
        StackError: a configured port is taken or is no port number.
    """
    remembered = read_ports(home)
    ports: dict[str, int] = {}
    for name in names:
        ports[name] = _configured_port(name) or _remembered_port(remembered, name, ports) or _fresh_port(ports)
    home.write_private(home.run / "ports.json", json.dumps(ports, indent=2))
    return ports


def read_ports(home: Home) -> dict[str, int]:
    """The ports of the last start; empty before the first."""
    try:
        ports: dict[str, int] = json.loads((home.run / "ports.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return ports


def _configured_port(name: str) -> int | None:
    variable = f"NIGHTSHIFT_PORT_{name.upper()}"
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StackError(f"{variable} is {text!r}; it must be a port number between 1 and 65535.")
    if not is_free(int(text)):
        raise StackError(
            f"Port {text}, asked for by {variable} for {name}, is taken by another program. "
            "Stop that program, or choose another port, or unset the variable."
        )
    return int(text)


def _remembered_port(remembered: Mapping[str, int], name: str, taken: Mapping[str, int]) -> int | None:
    port = remembered.get(name)
    return port if port and port not in taken.values() and is_free(port) else None


def _fresh_port(taken: Mapping[str, int]) -> int:
    for _ in range(_ATTEMPTS):
        port = random.randint(_FIRST_PORT, _LAST_PORT)  # noqa: S311 - a port, not a secret
        if port not in taken.values() and is_free(port):
            return port
    raise StackError(f"No free port was found on {LOOPBACK} between {_FIRST_PORT} and {_LAST_PORT}.")
