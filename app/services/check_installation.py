"""Look at every part of an installation and say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from app.db.session import Database
from app.installation import backing, machine, work
from app.installation.checks import Check, failed, guarded, ok
from config.settings import Settings

__all__ = ["Check", "ask_installation", "check_installation"]

FAR_TIMEOUT_S = 15.0


def check_installation(*, settings: Settings) -> list[Check]:
    """Run every check; one that fails does not stop the others, and nothing raises."""
    database = Database.connect(settings.database_url, connect_timeout_s=settings.connect_timeout_s, pool_size=1)
    try:
        return [
            machine.check_configuration(settings),
            machine.check_disk(settings),
            *_check_database(database, settings),
            _look(
                "object store", lambda: backing.check_storage(settings), "start it; look at the NIGHTSHIFT_S3 variables"
            ),
            backing.check_redis(settings),
            *_check_broker(settings),
        ]
    finally:
        database.close()


def ask_installation(*, url: str) -> list[Check]:
    """What a running API sees of its backing services: all that can be known from afar."""
    try:
        services = httpx.get(f"{url}/readyz", timeout=FAR_TIMEOUT_S, trust_env=False).json()["services"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        found = f"{url} does not answer as Nightshift does: {error}"
        return [failed("api", found, advice="start it, or mend NIGHTSHIFT_URL")]
    return [ok("api", url), *(_far_check(service) for service in services)]


def _far_check(service: dict[str, Any]) -> Check:
    if service["status"] == "ok":
        return ok(service["name"], "the API reaches it")
    advice = "run `nightshift doctor` where the servers' settings are, for more"
    return failed(service["name"], service["reason"] or service["status"], advice=advice)


def _check_database(database: Database, settings: Settings) -> Iterator[Check]:
    """Postgres first; where it fails or lacks our tables there is nothing more to ask it."""
    looks: list[tuple[str, Callable[[], Check], str]] = [
        ("postgres", lambda: backing.check_postgres(database), "start it; look at NIGHTSHIFT_DATABASE_URL"),
        ("migrations", lambda: backing.check_migrations(database), "run `nightshift migrate`"),
        ("workers", lambda: work.check_workers(database, settings), "run doctor again"),
        ("stuck work", lambda: work.check_stuck_work(database), "run doctor again"),
        ("dead letters", lambda: _dead_letters(database, settings), "run doctor again"),
    ]
    for name, look, advice in looks:
        check = _look(name, look, advice)
        yield check
        if name in {"postgres", "migrations"} and check.state == "failed":
            return


def _check_broker(settings: Settings) -> Iterator[Check]:
    broker = _look("broker", lambda: backing.check_broker(settings), "start it; look at NIGHTSHIFT_BROKER_URL")
    yield broker
    if broker.state == "failed" or settings.broker_is_redis:
        return
    if not settings.broker_api_url:
        advice = "set NIGHTSHIFT_BROKER_API_URL, so that the policy can be set and looked at"
        yield failed("topology", "NIGHTSHIFT_BROKER_API_URL is not set", advice=advice)
        return
    advice = "turn the management plugin on; look at NIGHTSHIFT_BROKER_API_URL"
    yield _look("topology", lambda: backing.check_topology(settings), advice)
    yield _look("consumers", lambda: backing.check_consumers(settings), advice)


def _dead_letters(database: Database, settings: Settings) -> Check:
    n_waiting = backing.dead_letters_waiting(settings) if settings.broker_api_url else 0
    return work.check_dead_letters(database, n_waiting=n_waiting)


def _look(name: str, look: Callable[[], Check], advice: str) -> Check:
    return guarded(name, look, advice=advice)
