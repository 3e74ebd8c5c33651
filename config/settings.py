"""Everything Nightshift reads from its environment, once, typed and frozen.

This is the only module that looks at ``os.environ``. A missing or unreadable value stops the process
at boot and names the variable. ``docs/configuration.md`` is generated from the fields below.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
import re
import shlex
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

PREFIX = "NIGHTSHIFT_"
_QUEUE_NAME = re.compile(r"[a-z][a-z0-9]*\.[0-9]{1,3}\Z")
# Its last label holds a letter: what looks like an address must be one.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*(?=[a-z0-9-]*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z"
)


class SettingsError(Exception):
    """A variable is missing or cannot be read; the message names it and says what it should hold."""


def _text(value: str) -> str:
    return value


def _integer(value: str) -> int:
    return int(value)


def _number(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def _count(value: str) -> int:
    number = _integer(value)
    if number < 0:
        raise ValueError("expected zero or a number above it")
    return number


def _share(value: str) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError("expected a number from 0 to 1")
    return number


def _amount(value: str) -> Decimal | None:
    if not value:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError("expected an amount such as 100.00") from None
    if not amount.is_finite() or amount <= 0:
        raise ValueError("expected an amount above zero, or nothing")
    return amount


def _path(value: str) -> Path:
    return Path(value).expanduser()


def is_queue_name(name: str) -> bool:
    """Whether a device queue may have this name: pool, dot, number."""
    return _QUEUE_NAME.match(name) is not None


def _queues(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names or any(not is_queue_name(name) for name in names):
        raise ValueError("expected names like gpu.0,gpu.1")
    return names


def _positive(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def read_positive(value: str) -> Any:
        number = read(value)
        if number <= 0:
            raise ValueError("expected a number above zero")
        return number

    return read_positive


def _ports(value: str) -> tuple[int, ...]:
    ports = tuple(int(port) for port in value.split(",") if port.strip())
    if not ports or any(not 0 < port < 65_536 for port in ports):
        raise ValueError("expected ports like 443,8443")
    return ports


def _receivers(value: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in value.split(",") if name.strip())
    for name in names:
        if not _is_network(name) and not _HOST_NAME.match(name):
            raise ValueError("expected networks and host names like 10.1.0.0/16,hooks.internal")
    return names


def _is_network(name: str) -> bool:
    try:
        ipaddress.ip_network(name)
    except ValueError:
        return False
    return True


_REQUIRED = object()


def _variable(
    help_text: str, *, default: Any = _REQUIRED, read: Callable[[str], Any] = _text, secret: bool = False
) -> Any:
    """Describe one variable: what it is for, how its text is read, whether it may be shown."""
    metadata = {"help": help_text, "read": read, "secret": secret}
    if default is _REQUIRED:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's configuration. Each field ``name`` is the variable ``NIGHTSHIFT_NAME``."""

    database_url: str = _variable("PostgreSQL, `postgresql+psycopg2://user:password@host:port/database`", secret=True)
    broker_url: str = _variable("RabbitMQ (`amqp://`), or Redis (`redis://`) where no RabbitMQ can be had", secret=True)
    redis_url: str = _variable(
        "Redis for chord counters and rate limits; `noeviction`, an instance of its own", secret=True
    )
    s3_endpoint: str = _variable("S3 server, `http://host:port` or `https://host`")
    s3_access_key: str = _variable("S3 access key id", secret=True)
    s3_secret_key: str = _variable("S3 secret key", secret=True)
    s3_bucket: str = _variable("Bucket for inputs and results; must exist", default="nightshift")
    s3_region: str = _variable("Region used in S3 signatures", default="us-east-1")
    key_pepper: str = _variable(
        "Secret mixed into the hash of every API key; changing it revokes all keys", secret=True
    )
    admin_key: str = _variable("Key accepted on `/v1/admin/*`; empty turns those routes off", default="", secret=True)

    broker_api_url: str = _variable(
        "RabbitMQ management API, `http://user:password@host:port/api`; empty under a Redis broker",
        default="",
        secret=True,
    )
    public_url: str = _variable("Address clients reach the API under; used in links", default="http://127.0.0.1:8000")
    api_bind: str = _variable("Address and port the API listens on", default="127.0.0.1:8000")
    api_workers: int = _variable("gunicorn processes", default=2, read=_positive(_integer))
    api_threads: int = _variable("Threads in each gunicorn process", default=16, read=_positive(_integer))
    metrics_bind: str = _variable("Operators' address for `/metrics`", default="127.0.0.1:9100")
    metrics_dir: Path = _variable(
        "Folder where processes share their counters; empty at each start of the stack",
        default=Path("/tmp/nightshift-metrics"),
        read=_path,
    )

    host: str = _variable("Name under which this host's workers register; empty: the host's own name", default="")
    queues: tuple[str, ...] = _variable(
        "Pinned device queues of this host's workers, one per device; the part before the dot is the pool. Queues of "
        "other hosts are learnt from their workers",
        default=("cpu.0",),
        read=_queues,
    )
    cache_dir: Path = _variable(
        "Folder of a device worker for what it measures once on its machine; may be emptied at any time",
        default=Path.home() / ".cache" / "nightshift",
        read=_path,
    )
    models_file: Path = _variable(
        "The models served (YAML)", default=Path(__file__).with_name("models.yaml"), read=_path
    )

    chunk_target_s: float = _variable("Estimated device seconds of one chunk", default=10.0, read=_positive(_number))
    chunk_max_items: int = _variable("Items in one chunk at most", default=5_000, read=_positive(_integer))
    lease_s: float = _variable(
        "A worker's lease on a chunk; renewed at a third of it", default=30.0, read=_positive(_number)
    )
    grant_patience_s: float = _variable(
        "How long a published chunk may be missing from its queue before it is published again",
        default=5.0,
        read=_positive(_number),
    )
    claim_patience_s: float = _variable(
        "A worker that is heard but has taken none of its published chunks for this long is stuck; others get them",
        default=60.0,
        read=_positive(_number),
    )
    worker_silence_s: float = _variable(
        "A worker silent for this long is taken for dead", default=20.0, read=_positive(_number)
    )
    dispatch_interval_s: float = _variable(
        "The dispatcher looks at least this often", default=1.0, read=_positive(_number)
    )
    scale_target_s: float = _variable(
        "Autoscaling: the workers that a pool should have get through its backlog within this time",
        default=600.0,
        read=_positive(_number),
    )
    scale_min_workers: int = _variable("Autoscaling: workers of a pool at least", default=0, read=_count)
    scale_max_workers: int = _variable("Autoscaling: workers of a pool at most", default=16, read=_positive(_integer))
    max_worker_deaths: int = _variable(
        "Deaths on one chunk before it is cut in halves to find the item that kills",
        default=2,
        read=_positive(_integer),
    )
    hang_timeout_s: float = _variable(
        "A device worker whose model is silent for this long is ended; sooner where a job has an `item_timeout_s`",
        default=300.0,
        read=_positive(_number),
    )
    worker_memory_bytes: int = _variable(
        "A device worker's child that holds more memory is ended and its item found; 0 leaves it to the kernel",
        default=0,
        read=_count,
    )
    sync_timeout_s: float = _variable("Deadline of a synchronous request", default=30.0, read=_positive(_number))

    max_file_bytes: int = _variable("Largest upload", default=200 * 1024 * 1024, read=_positive(_integer))
    max_upload_bytes: int = _variable(
        "Largest file that arrives in parts", default=2 * 1024**3, read=_positive(_integer)
    )
    max_part_bytes: int = _variable("Largest part of such a file", default=64 * 1024 * 1024, read=_positive(_integer))
    upload_life_s: int = _variable(
        "How long an upload in parts may take until it is completed", default=3_600, read=_positive(_integer)
    )
    max_inline_bytes: int = _variable("Largest JSON request body", default=64 * 1024 * 1024, read=_positive(_integer))
    max_inline_items: int = _variable("Items in `inputs` at most", default=10_000, read=_positive(_integer))
    max_job_items: int = _variable("Lines in one job's file at most", default=50_000, read=_positive(_integer))
    max_message_batch_bytes: int = _variable(
        "Largest body of a batch of messages", default=256 * 1024 * 1024, read=_positive(_integer)
    )
    max_message_batch_items: int = _variable(
        "Requests in a batch of messages at most", default=100_000, read=_positive(_integer)
    )
    max_group_items: int = _variable(
        "Lines in the file of a group at most", default=20_000_000, read=_positive(_integer)
    )
    max_member_items: int = _variable("Items of one job of a group", default=10_000, read=_positive(_integer))
    max_line_bytes: int = _variable("Longest line of an input file", default=4 * 1024 * 1024, read=_positive(_integer))
    max_queued_jobs: int = _variable(
        "Unfinished jobs of one tenant before 429 `queue_full`", default=20_000, read=_positive(_integer)
    )
    queue_deep_jobs: int = _variable(
        "Jobs that wait in a pool before `/v1/stats` and the metric `nightshift_queue_deep` raise an alert",
        default=5_000,
        read=_positive(_integer),
    )
    default_tenant_weight: float = _variable(
        "Share of a tenant among those who have work, relative to the others", default=1.0, read=_positive(_number)
    )
    default_tenant_max_running_jobs: int = _variable(
        "Jobs of a tenant that may run at once; the others wait", default=1_000, read=_positive(_integer)
    )
    default_tenant_max_chunks: int = _variable(
        "Chunks of a tenant that may be with workers at once", default=10_000, read=_positive(_integer)
    )
    default_tenant_max_enqueued_tokens: int = _variable(
        "Estimated tokens of a tenant's jobs that may be admitted and unfinished; jobs beyond them wait",
        default=10_000_000_000,
        read=_positive(_integer),
    )
    default_tenant_requests_per_minute: int = _variable(
        "Submits and synchronous requests of a tenant in a minute", default=1_200, read=_positive(_integer)
    )
    default_tenant_max_storage_bytes: int = _variable(
        "Bytes of files, inline inputs and results that a tenant may keep", default=2**40, read=_positive(_integer)
    )
    default_tenant_retention_s: int = _variable(
        "Longest life of a tenant's files and results, whatever is asked for",
        default=365 * 86_400,
        read=_positive(_integer),
    )
    default_tenant_budget: Decimal | None = _variable(
        "Money a tenant may spend; empty: no limit", default=None, read=_amount
    )
    file_retention_s: int = _variable("Life of an uploaded file", default=30 * 86_400, read=_positive(_integer))
    results_retention_s: int = _variable(
        "Life of a finished job's results", default=30 * 86_400, read=_positive(_integer)
    )
    events_retention_s: int = _variable(
        "Life of an event; those of a live job stay until it ends", default=30 * 86_400, read=_positive(_integer)
    )
    expiry_grace_s: int = _variable(
        "How long objects outlive the expiry or deletion of their file or results, for requests that are reading them",
        default=3_600,
        read=_positive(_integer),
    )
    idempotency_retention_s: int = _variable(
        "Life of the answer kept under an `Idempotency-Key`", default=86_400, read=_positive(_integer)
    )
    orphan_age_s: int = _variable(
        "Age at which an object that no row names is swept", default=86_400, read=_positive(_integer)
    )

    webhook_ports: tuple[int, ...] = _variable(
        "Ports of public receivers of webhooks", default=(443, 8443), read=_ports
    )
    webhook_receivers: tuple[str, ...] = _variable(
        "Private receivers that webhooks may reach, as networks and host names; plain `http` and any port are allowed "
        "there. Empty: only `https` to public addresses",
        default=(),
        read=_receivers,
    )
    webhook_timeout_s: float = _variable(
        "How long a receiver of a webhook may take, from the look-up of its name to its answer",
        default=10.0,
        read=_positive(_number),
    )
    webhook_patience_s: int = _variable(
        "How long a webhook is tried again before it is given up", default=86_400, read=_positive(_integer)
    )
    webhook_progress_s: int = _variable(
        "A job tells of its progress at most this often", default=60, read=_positive(_integer)
    )
    event_listeners: int = _variable(
        "Listeners to server-sent events in each gunicorn process at most; half of them of one tenant",
        default=500,
        read=_positive(_integer),
    )

    connect_timeout_s: float = _variable(
        "Connect timeout towards every backing service", default=5.0, read=_positive(_number)
    )
    storage_timeout_s: float = _variable("Read timeout towards the object store", default=30.0, read=_positive(_number))
    broker_timeout_s: float = _variable(
        "Read and write timeout towards the broker", default=8.0, read=_positive(_number)
    )
    statement_timeout_s: float = _variable("Longest SQL statement", default=30.0, read=_positive(_number))

    sentry_dsn: str = _variable("Sentry DSN; empty turns it off", default="", secret=True)
    otlp_endpoint: str = _variable(
        "Collector of traces, OTLP over HTTP, such as `http://127.0.0.1:4318`; empty turns them off", default=""
    )
    traces_sampled_ratio: float = _variable(
        "Share of the traces that begin here and are kept; one that a client began is kept where the client keeps it",
        default=1.0,
        read=_share,
    )
    environment: str = _variable("Name of this installation in Sentry, traces and logs", default="local")
    log_level: str = _variable("debug, info, warning or error", default="info")

    @property
    def host_name(self) -> str:
        """The name of this host among those that run workers."""
        return self.host or socket.gethostname()

    @property
    def broker_is_redis(self) -> bool:
        """Whether Redis stands in for RabbitMQ."""
        return self.broker_url.startswith(("redis://", "rediss://"))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read every variable.

        Raises:
            SettingsError: names every variable that is missing or unreadable, all at once.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for spec in dataclasses.fields(cls):
            name = PREFIX + spec.name.upper()
            text = environ.get(name)
            if text is None:
                if spec.default is dataclasses.MISSING:
                    problems.append(f"{name} is not set: {spec.metadata['help']}")
                continue
            try:
                values[spec.name] = spec.metadata["read"](text)
            except ValueError as error:
                shown = "(secret)" if spec.metadata["secret"] else repr(text)
                problems.append(f"{name} is {shown}: {error}; it holds: {spec.metadata['help']}")
        if problems:
            raise SettingsError("\n".join(problems))
        settings = cls(**values)
        if settings.scale_min_workers > settings.scale_max_workers:
            least, most = settings.scale_min_workers, settings.scale_max_workers
            raise SettingsError(f"NIGHTSHIFT_SCALE_MIN_WORKERS is {least} and NIGHTSHIFT_SCALE_MAX_WORKERS only {most}")
        return settings


def load_settings() -> Settings:
    """Read the settings of this process from its environment."""
    return Settings.from_environ(os.environ)


def read_secret(name: str) -> str | None:
    """A secret that the models file names by its variable; None where it is not set."""
    return os.environ.get(name) or None


CLIENT_FILE = Path(".nightshift/env")
STACK_SETTINGS = "settings.env"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What the command line needs to speak to a running Nightshift."""

    url: str
    api_key: str
    admin_key: str
    source: str
    """Where the address came from, for messages."""

    @classmethod
    def find(cls, environ: Mapping[str, str], start: Path) -> ClientSettings:
        """Take the environment, else ``.nightshift/env`` at ``start`` or above, or the one in ``NIGHTSHIFT_HOME``.

        The file's keys are never sent to another address than the file's own.

        Raises:
            SettingsError: neither names an address, the address is none, or a key cannot be sent.
        """
        path, filed = _client_file(environ.get("NIGHTSHIFT_HOME", ""), start)
        url = environ.get("NIGHTSHIFT_URL") or filed.get("NIGHTSHIFT_URL", "")
        if not url:
            raise SettingsError(
                "NIGHTSHIFT_URL is not set and there is no .nightshift/env in this folder or above it: start the local "
                "stack with `make up`, or set NIGHTSHIFT_URL and NIGHTSHIFT_API_KEY"
            )
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"NIGHTSHIFT_URL must begin with http:// or https://; it is {url[:80]!r}")
        known = {**(filed if url == filed.get("NIGHTSHIFT_URL") else {}), **environ}
        _check_sendable(known)
        return cls(
            url=url.rstrip("/"),
            api_key=known.get("NIGHTSHIFT_API_KEY", ""),
            admin_key=known.get("NIGHTSHIFT_ADMIN_KEY", ""),
            source="the environment" if environ.get("NIGHTSHIFT_URL") else str(path),
        )


def _check_sendable(variables: Mapping[str, str]) -> None:
    """Refuse a key that fits into no HTTP header, without showing it."""
    for name in ("NIGHTSHIFT_API_KEY", "NIGHTSHIFT_ADMIN_KEY"):
        key = variables.get(name, "")
        if any(not "!" <= character <= "~" for character in key):
            raise SettingsError(f"{name} holds a character that no key has: a space, a line end or one beyond ASCII")


def _client_file(home: str, start: Path) -> tuple[Path | None, dict[str, str]]:
    """The ``env`` of the stack in ``home``, else the nearest ``.nightshift/env`` at or above ``start``."""
    nearest = [folder / CLIENT_FILE for folder in (start, *start.parents)]
    for path in [Path(home).expanduser() / CLIENT_FILE.name] if home else nearest:
        if path.is_file():
            return path, read_shell_variables(path.read_text(encoding="utf-8"))
    return None, {}


def read_shell_variables(text: str) -> dict[str, str]:
    """The variables of ``NAME=value`` or ``export NAME=value`` lines, quoted as a shell would."""
    # Not line by line: str.splitlines also ends lines at characters that mean nothing to a shell.
    words = shlex.split(text, comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def load_operator_settings() -> Settings:
    """The settings of a command that acts on the servers: the environment's, else those of the local stack at hand.

    Never some of each: a command must not act on the database of one installation and the broker of another.

    Raises:
        SettingsError: names what is missing.
    """
    required = [spec.name for spec in dataclasses.fields(Settings) if spec.default is dataclasses.MISSING]
    path, _ = _client_file(os.environ.get("NIGHTSHIFT_HOME", ""), Path.cwd())
    stack = path.with_name(STACK_SETTINGS) if path else None
    if stack is None or not stack.is_file() or any(PREFIX + name.upper() in os.environ for name in required):
        return load_settings()
    return Settings.from_environ(read_shell_variables(stack.read_text(encoding="utf-8")))


def load_client_settings() -> ClientSettings:
    """Find the settings of the command line."""
    return ClientSettings.find(os.environ, Path.cwd())


def share_metrics_folder(folder: Path) -> None:
    """Let this process and its children count into files that the operators' port adds up.

    Call it before anything imports ``prometheus_client``: the library chooses at import.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
