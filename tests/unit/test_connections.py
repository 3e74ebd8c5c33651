"""How soon a broker that went away is tried again."""

from __future__ import annotations

import socket

import pytest
from kombu.exceptions import OperationalError

from tasks.celery_app import app
from tasks.connections import PromptAMQP, PromptConnection


def test_a_broker_that_is_away_is_tried_again_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    pauses_s: list[float] = []
    connection = PromptConnection(f"amqp://127.0.0.1:{port}//")
    with pytest.raises(OperationalError):
        connection.ensure_connection(lambda _error, pause_s: pauses_s.append(pause_s), 2)
    assert pauses_s == [0.5, 1.0]


def test_celery_connects_that_way() -> None:
    assert PromptAMQP.Connection is PromptConnection
    assert app.amqp_cls == "tasks.connections:PromptAMQP"
