"""Publishes work: the only place that sends chunk tasks, on behalf of the dispatcher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from amqp.exceptions import AMQPError, NotFound
from celery import Celery, chord
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from app.errors import BrokerUnavailable
from app.ports import Grant
from config.queues import CONTROL_QUEUE
from tasks.base import MESSAGE_VERSION
from tasks.callbacks import finish_wave
from tasks.chunks import run_chunk
from tasks.prepare import prepare_job


class CeleryPublisher:
    """Sends Celery messages over one connection; see ``app.ports.WorkPublisher``."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish_prepare(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_prepare``."""
        with _our_errors():
            prepare_job.apply_async(kwargs={"job_id": job_id, "version": MESSAGE_VERSION}, queue=CONTROL_QUEUE)

    def publish_wave(self, job_id: str, grants: Sequence[Grant]) -> None:
        """See ``WorkPublisher.publish_wave``."""
        if not grants:
            return
        header = [
            run_chunk.si(chunk_id=grant.chunk_id, grant=grant.grant, version=MESSAGE_VERSION).set(queue=grant.queue)
            for grant in grants
        ]
        body = finish_wave.si(job_id=job_id, version=MESSAGE_VERSION).set(queue=CONTROL_QUEUE)
        with _our_errors():
            chord(header, body, app=self._app).apply_async()

    def publish_finish(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_finish``."""
        with _our_errors():
            finish_wave.apply_async(kwargs={"job_id": job_id, "version": MESSAGE_VERSION}, queue=CONTROL_QUEUE)

    def ready_counts(self, queues: Sequence[str]) -> dict[str, int]:
        """See ``WorkPublisher.ready_counts``; a queue that does not exist holds nothing."""
        counts = {}
        with _our_errors(), self._app.connection_for_write() as connection:
            for queue in queues:
                channel = connection.channel()
                try:
                    counts[queue] = channel.queue_declare(queue, passive=True).message_count
                    channel.close()
                except NotFound:  # RabbitMQ has closed the channel already
                    counts[queue] = 0
        return counts


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except (AMQPError, KombuError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"the broker did not take a message: {type(error).__name__}") from error
