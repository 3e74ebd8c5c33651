"""Reads the dead-letter queue, a message at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError

from app.broker.connections import broker_connection
from app.errors import BrokerUnavailable
from config.queues import dead_letter_queue
from config.settings import Settings


def drain_dead_letters(settings: Settings, handle: Callable[[Mapping[str, Any]], None], *, at_most: int) -> int:
    """Give the headers of each dead message to ``handle`` and acknowledge it after that returned.

    Returns:
        How many there were. A message whose handling failed stays in the queue.
    Raises:
        BrokerUnavailable: the broker does not answer, or the queue was never declared.
    """
    try:
        with broker_connection(settings, heartbeat_s=0) as connection:
            queue = dead_letter_queue()(connection.default_channel)
            for n_read in range(at_most):
                message = queue.get(no_ack=False)
                if message is None:
                    return n_read
                handle(message.headers)
                message.ack()
            return at_most
    except (OperationalError, AMQPError, OSError) as error:
        raise BrokerUnavailable(f"the dead-letter queue cannot be read: {error}") from error
