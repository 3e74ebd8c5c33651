"""How processes hold on to a broker that comes and goes.

Kombu waits two seconds longer after each failed try, up to thirty, and Celery has no setting for it: after an outage of
a minute a worker would come back up to half a minute late.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from kombu import Connection

RETRY_INTERVALS_S = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 3.0}


class PromptConnection(Connection):
    """A connection that waits three seconds at most before it is tried again."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """As in kombu, with shorter pauses unless the caller names others."""
        return super().ensure_connection(*args, **{**RETRY_INTERVALS_S, **options})  # type: ignore[no-untyped-call]  # kombu is untyped


class PromptAMQP(AMQP):
    """Celery's way to the broker, over such connections."""

    Connection = PromptConnection
    BrokerConnection = PromptConnection


class UnhurriedEventDispatcher(EventDispatcher):
    """Sends events for Flower, each tried once; what cannot be sent is kept until the connection is back.

    Celery tries a heartbeat for ever, inside the loop that takes messages. On a connection that broke a moment ago
    kombu then connects again and again without a pause, and the worker never takes another message.
    """

    def send(self, *args: Any, **options: Any) -> Any:
        """As in Celery, but for ``retry``."""
        return super().send(*args, **{**options, "retry": False})


class UnhurriedEvents(Events):
    """Celery's events, sent that way."""

    dispatcher_cls = UnhurriedEventDispatcher
