"""A worker's heartbeat on a connection that broke: it must not hold up the loop that takes messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from celery import Celery
from chaos.fault_proxy import FaultProxy

from config.celery import celery_config
from config.settings import Settings
from tasks.connections import PromptAMQP, UnhurriedEvents

SOON_S = 3


@pytest.fixture
def proxy(servers: dict[str, str]) -> Iterator[FaultProxy]:
    port = urlsplit(servers["NIGHTSHIFT_BROKER_URL"]).port
    assert port is not None
    with FaultProxy(port) as proxy:
        yield proxy


def test_a_heartbeat_that_cannot_be_sent_is_given_up_at_once(servers: dict[str, str], proxy: FaultProxy) -> None:
    url = urlsplit(servers["NIGHTSHIFT_BROKER_URL"])
    with Celery("heart", amqp=PromptAMQP, events=UnhurriedEvents, set_as_current=False) as app:
        app.conf.update(celery_config(Settings.from_environ(servers)))
        app.conf.broker_url = servers["NIGHTSHIFT_BROKER_URL"].replace(f":{url.port}", f":{proxy.port}")
        with closing(app.connection_for_write()) as connection, app.events.Dispatcher(connection) as dispatcher:
            dispatcher.send("worker-heartbeat", retry=True)
            proxy.refuse()
            beat = threading.Thread(target=dispatcher.send, args=("worker-heartbeat",), kwargs={"retry": True})
            beat.daemon = True
            beat.start()
            beat.join(SOON_S)
            assert not beat.is_alive()
