"""RabbitMQ's management API, as far as topology and the doctor need it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

from app.errors import BrokerUnavailable
from config.settings import Settings


@dataclass(frozen=True, slots=True)
class BrokerQueue:
    """A queue as the broker sees it."""

    name: str
    kind: str
    """``quorum``, ``classic`` or ``stream``."""
    n_ready: int
    n_unacknowledged: int
    policy: str | None


class ManagementApi:
    """A client of one virtual host; use it as a context manager."""

    def __init__(self, client: httpx.Client, vhost: str) -> None:
        self._client = client
        self._vhost = quote(vhost, safe="")

    @classmethod
    def from_settings(cls, settings: Settings) -> ManagementApi:
        """Make the client; nothing is contacted yet."""
        address = urlsplit(settings.broker_api_url)
        bare = urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path.rstrip("/") + "/", "", ""))
        timeout = httpx.Timeout(settings.broker_timeout_s, connect=settings.connect_timeout_s)
        login = (unquote(address.username or ""), unquote(address.password or ""))
        # Not httpx's own list of authorities: the system's, as all other clients.
        trusted = ssl.create_default_context()
        client = httpx.Client(base_url=bare, auth=login, timeout=timeout, verify=trusted, trust_env=False)
        return cls(client, vhost_of(settings.broker_url))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.close()

    def version(self) -> tuple[int, ...]:
        """The server's version, for example ``(3, 10, 8)``."""
        text: str = self._call("GET", "overview")["rabbitmq_version"]
        return tuple(int(part) for part in text.split("-", maxsplit=1)[0].split(".") if part.isdigit())

    def put_policy(self, name: str, *, pattern: str, definition: dict[str, Any]) -> None:
        """Set a queue policy, replacing the one of that name.

        Raises:
            BrokerUnavailable: no answer, or a key that this version does not know.
        """
        body = {"pattern": pattern, "definition": definition, "priority": 10, "apply-to": "queues"}
        self._call("PUT", f"policies/{self._vhost}/{quote(name, safe='')}", body)

    def policy(self, name: str) -> dict[str, Any] | None:
        """The definition of the queue policy of that name; None where there is none."""
        policies = self._call("GET", f"policies/{self._vhost}")
        return next((policy["definition"] for policy in policies if policy["name"] == name), None)

    def queues(self) -> dict[str, BrokerQueue]:
        """Every queue of the virtual host, by name; counts are a few seconds old."""
        found = self._call("GET", f"queues/{self._vhost}")
        return {queue["name"]: _read_queue(queue) for queue in found}

    def alarms(self) -> list[str]:
        """Resource alarms (memory, disk) that stop publishers now, as ``node: kind``."""
        raised = []
        for node in self._call("GET", "nodes"):
            raised += [f"{node['name']}: {kind}" for kind in ("mem", "disk_free") if node.get(f"{kind}_alarm")]
        return raised

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = self._client.request(method, path, json=body)
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise BrokerUnavailable(_refusal(error.response, path)) from error
        except httpx.HTTPError as error:
            raise BrokerUnavailable(
                f"RabbitMQ's management API at {self._client.base_url} does not answer ({type(error).__name__}); "
                "is the management plugin on, and NIGHTSHIFT_BROKER_API_URL right?"
            ) from error
        return response.json() if response.content else None


def vhost_of(broker_url: str) -> str:
    """The virtual host an AMQP address names."""
    return unquote(urlsplit(broker_url).path.removeprefix("/")) or "/"


def _read_queue(queue: dict[str, Any]) -> BrokerQueue:
    return BrokerQueue(
        name=queue["name"],
        kind=queue.get("type", "classic"),
        n_ready=queue.get("messages_ready", 0),
        n_unacknowledged=queue.get("messages_unacknowledged", 0),
        policy=queue.get("policy") or None,
    )


def _refusal(response: httpx.Response, path: str) -> str:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return "RabbitMQ's management API refuses the user of NIGHTSHIFT_BROKER_API_URL (it needs a management tag)"
    return f"RabbitMQ's management API answered {response.status_code} to {path}: {response.text[:300]}"
