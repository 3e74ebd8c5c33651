"""Publishes work: the only place that sends chunk tasks, on behalf of the dispatcher."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from amqp.exceptions import AMQPError, NotFound
from celery import Celery, Signature, Task, chord
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from app.errors import BrokerUnavailable
from app.ports import Grant
from config.queues import CONTROL_QUEUE, WEBHOOK_QUEUE, work_queue
from tasks.base import MESSAGE_VERSION, message_headers
from tasks.callbacks import finish_wave
from tasks.chunks import run_chunk
from tasks.groups import lead_group
from tasks.prepare import prepare_job
from tasks.webhooks import deliver_webhooks

log = structlog.get_logger(__name__)

REDIS_PAUSE_S = 10.0
"""After Redis failed, waves go out without chords for this long."""


class CeleryPublisher:
    """Sends Celery messages over one connection; see ``app.ports.WorkPublisher``."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._no_chords_before_s = 0.0

    def publish_prepare(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_prepare``."""
        with _our_errors():
            _send(prepare_job, CONTROL_QUEUE, job_id=job_id)

    def publish_lead(self, group_id: str) -> None:
        """See ``WorkPublisher.publish_lead``."""
        with _our_errors():
            _send(lead_group, CONTROL_QUEUE, group_id=group_id)

    def publish_webhook(self, delivery_id: str) -> None:
        """See ``WorkPublisher.publish_webhook``."""
        with _our_errors():
            _send(deliver_webhooks, WEBHOOK_QUEUE, delivery_id=delivery_id)

    def publish_wave(self, job_id: str, grants: Sequence[Grant]) -> None:
        """See ``WorkPublisher.publish_wave``."""
        if not grants:
            return
        self._know(grant.queue for grant in grants)
        header = [_signature(run_chunk, grant.queue, chunk_id=grant.chunk_id, grant=grant.grant) for grant in grants]
        body = _signature(finish_wave, CONTROL_QUEUE, job_id=job_id)
        with _our_errors():
            if not self._sent_as_chord(job_id, chord(header, body, app=self._app)):
                for task in header:
                    task.apply_async()

    def _know(self, queues: Iterable[str]) -> None:
        """Let Celery publish to queues of hosts that joined later; it declares each on the broker as it publishes."""
        for queue in queues:
            if queue not in self._app.amqp.queues:
                self._app.amqp.queues.add(work_queue(queue))

    def _sent_as_chord(self, job_id: str, wave: chord) -> bool:
        """Try the quick path. The chord only saves the dispatcher a look: without Redis the work goes out on its own.

        What went out before Redis failed comes twice then, which is harmless.
        """
        if time.monotonic() < self._no_chords_before_s:
            return False
        try:
            wave.apply_async()
        except RedisError:
            self._no_chords_before_s = time.monotonic() + REDIS_PAUSE_S
            log.warning("wave_sent_without_chord", job_id=job_id, exc_info=True)
            return False
        return True

    def publish_finish(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_finish``."""
        with _our_errors():
            _send(finish_wave, CONTROL_QUEUE, job_id=job_id)

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


def _send(task: Task, queue: str, **ids: str) -> None:
    _signature(task, queue, **ids).apply_async()


def _signature(task: Task, queue: str, **ids: str | int) -> Signature:
    return task.si(version=MESSAGE_VERSION, **ids).set(queue=queue, headers=message_headers())


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except (AMQPError, KombuError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"the broker did not take a message: {type(error).__name__}") from error
