"""Declare the exchanges, the queues and the policy on the broker; running it again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from amqp.exceptions import AccessRefused, PreconditionFailed
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from app.broker.management import ManagementApi
from app.errors import BrokerUnavailable
from config.queues import POLICY_DEFINITION, POLICY_NAME, POLICY_PATTERN, all_queues
from config.settings import Settings
from config.tls import broker_tls

# The first version whose policies know the key; on an older one the server's own setting holds, which is 30 minutes
# unless its rabbitmq.conf says otherwise. Read from rabbit_policies of both versions.
POLICY_KEY_SINCE: dict[str, tuple[int, ...]] = {"consumer-timeout": (3, 12)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyReport:
    """What was declared."""

    broker: str
    queues: tuple[str, ...] = ()
    policy: str | None = None
    policy_keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def apply_topology(*, settings: Settings) -> TopologyReport:
    """Make the broker look as ``config/queues.py`` says.

    Raises:
        BrokerUnavailable: it does not answer, or a queue exists with other arguments.
    """
    if settings.broker_is_redis:
        note = "Redis is the broker: it makes its lists by itself, so there is nothing to declare"
        return TopologyReport(broker="redis", notes=(note,))
    queues = all_queues(settings.queues)
    _declare(settings, queues)
    names = tuple(queue.name for queue in queues)
    if not settings.broker_api_url:
        note = "NIGHTSHIFT_BROKER_API_URL is not set: the policy (delivery limit, dead letters) was not applied"
        return TopologyReport(broker="rabbitmq", queues=names, notes=(note,))
    keys, notes = _apply_policy(settings)
    return TopologyReport(broker="rabbitmq", queues=names, policy=POLICY_NAME, policy_keys=keys, notes=notes)


def supported_policy(version: tuple[int, ...]) -> tuple[dict[str, object], tuple[str, ...]]:
    """The policy as this version takes it, and a note for each key it does not know."""
    definition = {key: value for key, value in POLICY_DEFINITION.items() if version >= POLICY_KEY_SINCE.get(key, (0,))}
    shown = ".".join(map(str, version))
    notes = tuple(
        f"RabbitMQ {shown} takes {key} only from rabbitmq.conf (by policy from "
        f"{'.'.join(map(str, POLICY_KEY_SINCE[key]))} on); its server-wide value applies"
        for key in POLICY_DEFINITION
        if key not in definition
    )
    return definition, notes


def _apply_policy(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with ManagementApi.from_settings(settings) as api:
        definition, notes = supported_policy(api.version())
        api.put_policy(POLICY_NAME, pattern=POLICY_PATTERN, definition=definition)
    return tuple(definition), notes


def _declare(settings: Settings, queues: list[Queue]) -> None:
    with (
        _our_errors(),
        Connection(
            settings.broker_url, connect_timeout=settings.connect_timeout_s, ssl=broker_tls(settings)
        ) as connection,
    ):
        for queue in queues:
            # A refused declaration closes its channel, so each queue gets its own.
            with connection.channel() as channel, _conflicts(queue.name):
                queue(channel).declare()


@contextmanager
def _conflicts(queue: str) -> Iterator[None]:
    try:
        yield
    except PreconditionFailed as error:
        raise BrokerUnavailable(
            f"the queue {queue!r} exists with other arguments ({error.reply_text}); let it run empty, delete it "
            "(rabbitmqctl delete_queue) and run `nightshift topology` again"
        ) from error


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except AccessRefused as error:
        raise BrokerUnavailable(f"RabbitMQ refuses the user of NIGHTSHIFT_BROKER_URL: {error.reply_text}") from error
    except (OperationalError, OSError) as error:
        raise BrokerUnavailable(f"RabbitMQ does not answer ({error}); is NIGHTSHIFT_BROKER_URL right?") from error
