"""Asks RabbitMQ who listens, over AMQP: its management API answers with counts that are some seconds old."""

from __future__ import annotations

from collections.abc import Sequence

from amqp.exceptions import AMQPError, NotFound
from kombu.exceptions import OperationalError

from app.broker.connections import broker_connection
from app.errors import BrokerUnavailable
from config.settings import Settings


def consumer_counts(settings: Settings, queues: Sequence[str]) -> dict[str, int]:
    """How many consumers each queue has now; a queue that does not exist is left out.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    counts = {}
    try:
        with broker_connection(settings, heartbeat_s=0) as connection:
            for queue in queues:
                # Asking for a queue that is not there closes the channel, so each queue gets its own.
                channel = connection.channel()
                try:
                    counts[queue] = channel.queue_declare(queue, passive=True).consumer_count
                    channel.close()
                except NotFound:
                    continue
    except (OperationalError, AMQPError, OSError) as error:
        raise BrokerUnavailable(f"RabbitMQ does not say who listens: {error}") from error
    return counts
