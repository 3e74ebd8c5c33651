"""Tasks that count how often they ran, under Nightshift's own Celery configuration."""

from __future__ import annotations

import os

import redis
from celery import Celery

from config.celery import celery_config
from config.queues import work_queue
from config.settings import Settings


def make_app(settings: Settings, queue: str) -> Celery:
    """An app with one queue and tasks that note in Redis that they ran."""
    app = Celery("chords", set_as_current=False)
    app.conf.update(celery_config(settings), task_queues=[work_queue(queue)], task_default_queue=queue)
    app.conf.task_default_routing_key = queue

    def note(kind: str, wave: str) -> None:
        with redis.Redis.from_url(settings.redis_url) as client:
            client.incr(f"{kind}:{wave}")

    @app.task(name="pin.header", ignore_result=True)
    def header(*, wave: str) -> str:
        note("header", wave)
        return "done"

    @app.task(name="pin.nothing", ignore_result=True)
    def nothing(*, wave: str) -> str:
        return f"{wave} is not ours"

    @app.task(name="pin.body", ignore_result=True)
    def body(*, wave: str) -> None:
        note("body", wave)

    return app


def main() -> None:
    """Serve the queue."""
    queue = os.environ["CHORD_QUEUE"]
    app = make_app(Settings.from_environ(os.environ), queue)
    app.worker_main(["worker", "-P", "prefork", "-c", "1", "-Q", queue, "--without-mingle"])


if __name__ == "__main__":
    main()
