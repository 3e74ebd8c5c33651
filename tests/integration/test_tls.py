"""Every backing server can be reached over TLS, and is refused where its certificate is another's or nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery
from tls_front import Authority, tls_front

from app.broker.listeners import consumer_counts
from app.broker.management import ManagementApi
from app.db.notify import listening_session
from app.db.session import Database
from app.errors import BrokerUnavailable, DatabaseUnavailable, StorageUnavailable
from app.installation.backing import check_broker, check_redis
from app.services.apply_topology import apply_topology
from app.services.check_health import check_health
from app.storage.s3 import S3Store
from app.wiring import build_wiring
from config.celery import celery_config
from config.queues import CONTROL_QUEUE
from config.settings import Settings

SECURE = {"amqp": "amqps", "redis": "rediss", "http": "https"}
FIELDS = ("broker_url", "broker_api_url", "redis_url", "s3_endpoint")
OTHER_NAME = "elsewhere.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One that nobody trusts yet."""
    return Authority.make(tmp_path)


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the authority is trusted, as OpenSSL's own variable says."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


def _secured(servers: dict[str, str], authority: Authority, stack: ExitStack, *, name: str) -> Settings:
    settings = Settings.from_environ(servers)
    changed = {}
    for field in FIELDS:
        url = urlsplit(getattr(settings, field))
        port = stack.enter_context(tls_front(authority, to_port=url.port or 0, name=name))
        netloc = url.netloc.replace(f":{url.port}", f":{port}")
        changed[field] = url._replace(scheme=SECURE[url.scheme], netloc=netloc).geturl()
    return replace(settings, **changed)


@pytest.fixture
def secure(servers: dict[str, str], authority: Authority) -> Iterator[Settings]:
    """The settings of servers that are reached over TLS only, under their own name."""
    with ExitStack() as stack:
        yield _secured(servers, authority, stack, name="127.0.0.1")


@pytest.fixture
def misnamed(servers: dict[str, str], authority: Authority) -> Iterator[Settings]:
    """The same with certificates for another host."""
    with ExitStack() as stack:
        yield _secured(servers, authority, stack, name=OTHER_NAME)


@pytest.mark.usefixtures("trusted")
def test_every_server_is_reached_over_tls(secure: Settings) -> None:
    wiring = build_wiring(secure)
    health = check_health(wiring=wiring)
    assert {service.name: service.reason for service in health.services if service.reason} == {}
    wiring.database.close()
    assert check_broker(secure).state == check_redis(secure).state == "ok"
    assert apply_topology(settings=secure).policy
    assert CONTROL_QUEUE in consumer_counts(secure, [CONTROL_QUEUE])


@pytest.mark.usefixtures("trusted")
def test_celery_publishes_and_counts_chords_over_tls(secure: Settings) -> None:
    app = Celery("tls")
    app.conf.update(celery_config(secure))
    with app.connection_for_write() as connection:
        connection.connect()
        assert connection.transport.driver_name == "py-amqp"
    assert app.backend.client.ping()
    app.backend.client.close()


def test_a_server_that_nobody_vouches_for_is_refused(secure: Settings) -> None:
    _assert_all_refused(secure)


@pytest.mark.usefixtures("trusted")
def test_a_server_under_another_name_is_refused(misnamed: Settings) -> None:
    _assert_all_refused(misnamed)


def _assert_all_refused(settings: Settings) -> None:
    settings = replace(settings, connect_timeout_s=2.0)
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        check_broker(settings)
    with pytest.raises(BrokerUnavailable, match="does not answer"), ManagementApi.from_settings(settings) as api:
        api.version()
    with pytest.raises(StorageUnavailable):
        S3Store.from_settings(settings).check()
    assert check_redis(settings).state == "failed"


def test_a_database_without_tls_is_refused_where_the_address_asks_for_it(servers: dict[str, str]) -> None:
    url = f"{Settings.from_environ(servers).database_url}?sslmode=require"
    database = Database.connect(url)
    with pytest.raises(DatabaseUnavailable):
        database.check()
    database.close()
    with pytest.raises(Exception, match="does not support SSL"):
        listening_session(url, connect_timeout_s=5, application_name="tls")
