"""The dispatcher's way to the broker where tracing is on: what is published for a job belongs to the job's trace."""

from __future__ import annotations

from collections.abc import Sequence

from app.db.repositories.jobs import Jobs
from app.db.session import Database
from app.observability.tracing import span
from app.ports import Grant, WorkPublisher


class TracedPublisher:
    """A ``WorkPublisher`` around another. It asks for the trace of each job, which is a query for each message."""

    def __init__(self, publisher: WorkPublisher, database: Database) -> None:
        self._publisher = publisher
        self._database = database

    def publish_prepare(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_prepare``."""
        with span("dispatch prepare", parent=self._traceparent(job_id), kind="producer", job_id=job_id):
            self._publisher.publish_prepare(job_id)

    def publish_wave(self, job_id: str, grants: Sequence[Grant]) -> None:
        """See ``WorkPublisher.publish_wave``."""
        parent = self._traceparent(job_id)
        with span("dispatch wave", parent=parent, kind="producer", job_id=job_id, n_chunks=len(grants)):
            self._publisher.publish_wave(job_id, grants)

    def publish_finish(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_finish``."""
        with span("dispatch finish", parent=self._traceparent(job_id), kind="producer", job_id=job_id):
            self._publisher.publish_finish(job_id)

    def publish_lead(self, group_id: str) -> None:
        """See ``WorkPublisher.publish_lead``."""
        self._publisher.publish_lead(group_id)

    def publish_webhook(self, delivery_id: str) -> None:
        """See ``WorkPublisher.publish_webhook``."""
        self._publisher.publish_webhook(delivery_id)

    def ready_counts(self, queues: Sequence[str]) -> dict[str, int]:
        """See ``WorkPublisher.ready_counts``."""
        return self._publisher.ready_counts(queues)

    def _traceparent(self, job_id: str) -> str | None:
        with self._database.begin() as connection:
            return Jobs(connection).get_any(job_id).traceparent
