"""Checks of the four backing servers."""

from __future__ import annotations

import time

import redis
from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import OperationalError
from sqlalchemy import text

from app.broker.listeners import consumer_counts
from app.broker.management import BrokerQueue, ManagementApi
from app.db.migrate import current_revision, head_revision
from app.db.session import Database
from app.errors import BrokerUnavailable
from app.installation.checks import Check, failed, ok, warning
from app.storage.s3 import S3Store
from config.queues import (
    CONTROL_QUEUE,
    DEAD_LETTER_QUEUE,
    POLICY_NAME,
    WEBHOOK_QUEUE,
    all_queues,
    pool_of,
    sync_lane_queue,
)
from config.settings import Settings
from config.tls import broker_tls

OLDEST_POSTGRES = 14
STATISTICS_AGE_S = 6.0


def check_postgres(database: Database) -> Check:
    """Postgres answers and is new enough."""
    with database.begin() as connection:
        number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    found = f"PostgreSQL {number // 10_000}.{number % 10_000}"
    if number // 10_000 < OLDEST_POSTGRES:
        return failed("postgres", found, advice=f"upgrade to PostgreSQL {OLDEST_POSTGRES} or newer")
    return ok("postgres", found)


def check_migrations(database: Database) -> Check:
    """The tables are those of this version."""
    head = head_revision()
    with database.begin() as connection:
        current = current_revision(connection)
    if current == head:
        return ok("migrations", f"at {head}")
    return failed(
        "migrations", f"at {current or 'nothing'}, this version needs {head}", advice="run `nightshift migrate`"
    )


def check_storage(settings: Settings) -> Check:
    """The bucket answers."""
    S3Store.from_settings(settings).check()
    return ok("object store", f"bucket {settings.s3_bucket} at {settings.s3_endpoint}")


def check_redis(settings: Settings) -> Check:
    """Redis answers and never evicts."""
    timeout_s = settings.connect_timeout_s
    try:
        with redis.Redis.from_url(
            settings.redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, decode_responses=True
        ) as client:
            version = client.info("server")["redis_version"]
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
    except redis.RedisError as error:
        return failed("redis", f"does not answer: {error}", advice="start it; look at NIGHTSHIFT_REDIS_URL")
    if policy != "noeviction":
        advice = "give Nightshift a Redis of its own with `maxmemory-policy noeviction`: chord counters must not vanish"
        return warning("redis", f"Redis {version}, maxmemory-policy {policy}", advice=advice)
    return ok("redis", f"Redis {version}, noeviction")


def check_broker(settings: Settings) -> Check:
    """The broker takes our login."""
    kind = "Redis" if settings.broker_is_redis else "RabbitMQ"
    try:
        with Connection(
            settings.broker_url, connect_timeout=settings.connect_timeout_s, ssl=broker_tls(settings)
        ) as connection:
            connection.connect()
            version = connection.connection.server_properties.get("version", "") if kind == "RabbitMQ" else ""
    except (OperationalError, AMQPError, redis.RedisError, OSError) as error:
        raise BrokerUnavailable(f"{kind} does not answer or refuses us: {error}") from error
    if settings.broker_is_redis:
        advice = "fit for a try-out; use RabbitMQ where work must survive a broker's crash by itself"
        return warning("broker", "Redis stands in for RabbitMQ", advice=advice)
    return ok("broker", f"RabbitMQ {version}".strip())


def check_topology(settings: Settings) -> Check:
    """Every queue exists, carries work as a quorum queue, and is under the policy."""
    with ManagementApi.from_settings(settings) as api:
        found, alarms = api.queues(), api.alarms()
        if any(queue.policy is None for name, queue in found.items() if name in _work_queues(settings)):
            time.sleep(STATISTICS_AGE_S)  # one that was just declared shows its policy with its next statistics
            found = api.queues()
    if alarms:
        return failed(
            "topology", f"the broker is in alarm: {', '.join(alarms)}", advice="free memory or disk on its host"
        )
    wanted = [queue.name for queue in all_queues(settings.queues)]
    if missing := [name for name in wanted if name not in found]:
        return failed("topology", f"no queue {', '.join(missing)}", advice="run `nightshift topology`")
    if bare := [name for name in _work_queues(settings) if found[name].policy != POLICY_NAME]:
        return failed("topology", f"no policy on {', '.join(bare)}", advice="run `nightshift topology`")
    return ok("topology", f"{len(wanted)} queues, policy {POLICY_NAME}")


def check_consumers(settings: Settings) -> Check:
    """Somebody listens on every queue, and nothing rests in the dead-letter queue."""
    with ManagementApi.from_settings(settings) as api:
        found = api.queues()
    listened = [*_work_queues(settings), *_sync_queues(settings)]
    counts = consumer_counts(settings, listened)
    if silent := [name for name, n_consumers in counts.items() if not n_consumers]:
        waiting = sum(found[name].n_ready for name in silent if name in found)
        advice = (
            "start the worker of each (`make ps` shows what runs in the local stack); "
            "one that was just started needs some seconds"
        )
        return failed(
            "consumers", f"nobody listens on {', '.join(silent)}; {waiting} messages wait there", advice=advice
        )
    return ok("consumers", _busy(found, listened))


def dead_letters_waiting(settings: Settings) -> int:
    """Messages in the dead-letter queue that beat's reader has not fetched yet."""
    with ManagementApi.from_settings(settings) as api:
        queue = api.queues().get(DEAD_LETTER_QUEUE)
    return queue.n_ready if queue else 0


def _busy(found: dict[str, BrokerQueue], names: list[str]) -> str:
    counted = (found[name] for name in names if name in found)
    busy = [
        f"{queue.name} {queue.n_ready} waiting, {queue.n_unacknowledged} taken"
        for queue in counted
        if queue.n_ready or queue.n_unacknowledged
    ]
    return "; ".join(["every queue has its worker", *busy])


def _work_queues(settings: Settings) -> list[str]:
    return [CONTROL_QUEUE, WEBHOOK_QUEUE, *settings.queues]


def _sync_queues(settings: Settings) -> list[str]:
    pools = sorted({pool_of(name) for name in settings.queues})
    return [sync_lane_queue(pool).name for pool in pools]
