"""RabbitMQ with its management plugin, run as the current user beside any RabbitMQ of the system."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kombu
from kombu.exceptions import OperationalError

from nightshift_local.errors import NotReady
from nightshift_local.home import Home
from nightshift_local.ports import LOOPBACK
from nightshift_local.program import Program
from nightshift_local.rabbitmq_install import RabbitInstallation

VHOST = "nightshift"
USER = "nightshift"
MONITOR_USER = "flower"
PORT_NAMES = ("rabbitmq", "rabbitmq_api", "rabbitmq_dist", "epmd")

# The write-ahead log of quorum queues grows to 512 MB by default, in memory and on disk.
_CONFIGURATION = """
listeners.tcp.1 = {host}:{port}
management.tcp.ip = {host}
management.tcp.port = {api_port}
load_definitions = {definitions}
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 200MB
raft.wal_max_size_bytes = 67108864
consumer_timeout = 1800000
management.rates_mode = none
"""
# Erlang's schedulers spin for a while before they sleep; on cores that are shared that is taken from the workers.
_NO_BUSY_WAIT = "+sbwt none +sbwtdcpu none +sbwtdio none"


@dataclass(frozen=True, slots=True)
class RabbitMQ:
    """One node with its own name, cookie, port mapper and data; two users, no guest."""

    home: Home
    ports: Mapping[str, int]
    installation: RabbitInstallation
    password: str
    monitor_password: str
    cookie: str
    name: str = "rabbitmq"
    starts_within_s: float = 120

    @property
    def port(self) -> int:
        """AMQP."""
        return self.ports["rabbitmq"]

    @property
    def data(self) -> Path:
        """The node's home: cookie, message store, schema."""
        return self.home.data / "rabbitmq"

    def prepare(self) -> None:
        """Write cookie, plugins, users and configuration."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.home.write_private(self.data / ".erlang.cookie", self.cookie, mode=0o400)
        self.home.write_private(self._plugins, "[rabbitmq_management].\n")
        self.home.write_private(self._definitions, json.dumps(self._users_and_vhost()))
        text = _CONFIGURATION.format(
            host=LOOPBACK, port=self.port, api_port=self.ports["rabbitmq_api"], definitions=self._definitions
        )
        self.home.write_private(self._configuration, text)

    def programs(self) -> Sequence[Program]:
        """Erlang's port mapper in the foreground, so that no daemon outlives the stack; then the node."""
        epmd_port = str(self.ports["epmd"])
        epmd = [str(self.installation.epmd), "-port", epmd_port, "-address", LOOPBACK]
        return [
            Program(name="epmd", argv=epmd, cwd=self.data, port=self.ports["epmd"]),
            Program(
                name=self.name,
                argv=[str(self.installation.server)],
                cwd=self.data,
                env=self.node_environment(),
                port=self.port,
                stop_wait_s=15,
            ),
        ]

    def probe(self) -> None:
        """Open an AMQP connection to our vhost and ask the management API."""
        url = self.amqp_url
        try:
            with kombu.Connection(url, connect_timeout=3) as connection:
                connection.connect()
            httpx.get(f"{self.api_url}/overview", timeout=3, trust_env=False).raise_for_status()
        except (OSError, OperationalError, httpx.HTTPError) as error:
            raise NotReady(f"{type(error).__name__}: {error}".replace(self.password, "***")) from error

    def settings(self) -> dict[str, str]:
        """AMQP for work, the management API for topology."""
        return {"NIGHTSHIFT_BROKER_URL": self.amqp_url, "NIGHTSHIFT_BROKER_API_URL": self.api_url}

    @property
    def amqp_url(self) -> str:
        """Where Celery finds it."""
        return f"amqp://{USER}:{self.password}@{LOOPBACK}:{self.port}/{VHOST}"

    @property
    def api_url(self) -> str:
        """The management API as the user who may write policies."""
        return f"http://{USER}:{self.password}@{LOOPBACK}:{self.ports['rabbitmq_api']}/api"

    @property
    def monitor_api_url(self) -> str:
        """The management API as the user who may only look."""
        return f"http://{MONITOR_USER}:{self.monitor_password}@{LOOPBACK}:{self.ports['rabbitmq_api']}/api"

    def node_environment(self) -> dict[str, str]:
        """What the node and ``rabbitmqctl`` need to find this node and no other."""
        return {
            "PATH": self.installation.search_path,
            "HOME": str(self.data),
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": "nightshift@localhost",
            "RABBITMQ_DIST_PORT": str(self.ports["rabbitmq_dist"]),
            "RABBITMQ_MNESIA_BASE": str(self.data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(self._configuration),
            "RABBITMQ_CONF_ENV_FILE": str(self.home.run / "no-rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._plugins),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.home.run),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{127,0,0,1}} {_NO_BUSY_WAIT}",
            # The start script becomes the node instead of waiting for it: the recorded pid is the node's.
            "detached": "true",
            "LANG": "C.UTF-8",
        }

    def _users_and_vhost(self) -> dict[str, Any]:
        return {
            "users": [
                _user(USER, self.password, tags="policymaker,monitoring"),
                _user(MONITOR_USER, self.monitor_password, tags="monitoring"),
            ],
            "vhosts": [{"name": VHOST}],
            "permissions": [
                {"user": USER, "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"},
                {"user": MONITOR_USER, "vhost": VHOST, "configure": "", "write": "", "read": ".*"},
            ],
        }

    @property
    def _configuration(self) -> Path:
        return self.home.run / "rabbitmq.conf"

    @property
    def _plugins(self) -> Path:
        return self.home.run / "rabbitmq.plugins"

    @property
    def _definitions(self) -> Path:
        return self.home.run / "rabbitmq.json"


def _user(name: str, password: str, *, tags: str) -> dict[str, str]:
    """A user as the definitions file takes it: base64 of salt and SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }
