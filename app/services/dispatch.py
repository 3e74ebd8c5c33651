"""One look of the dispatcher: make the broker match the rows.

Level-triggered: each step asks what is the case, not what happened. Publishing twice is harmless, because a chunk is
claimed once, so whenever in doubt a message is sent again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial

import structlog

from app.db.repositories.dispatching import Dispatching
from app.db.repositories.groups import Groups
from app.db.repositories.jobs import Jobs
from app.db.repositories.webhook_deliveries import WebhookDeliveries
from app.db.repositories.workers import LiveWorker, Workers
from app.db.session import Database
from app.dispatch_metrics import GRANTS, GRANTS_PUBLISHED_AGAIN, LEASES_TAKEN_OVER, LOOKS, TAKEN_FROM_SILENT
from app.errors import BrokerUnavailable
from app.ports import Grant, WorkPublisher
from app.services.escalate_jobs import escalate_jobs
from app.services.expire_jobs import expire_jobs
from app.services.grant_chunks import ChunkGranter
from app.services.take_outlook import OutlookTaker
from app.services.watch_broker import WatchedPublisher
from config.models import ModelSpec
from config.settings import Settings

log = structlog.get_logger(__name__)

JOBS_AT_ONCE = 200
LEASE_GRACE_S = 5.0
"""Longer than any worker waits to renew its lease or to report itself."""
CALLBACK_PATIENCE_S = 2.0
"""How long the chord callback may take before the dispatcher finishes a job itself."""
LONGEST_PATIENCE_S = 60.0
RECEIVERS_AT_ONCE = 4
"""Receivers of one tenant that webhooks are sent to at once: whoever names dead ones does not take all senders."""


@dataclass(slots=True)
class Patience:
    """Remembers what was asked for lately, so that asking again waits twice as long each time."""

    first_s: float
    _next: dict[str, tuple[float, float]] = field(default_factory=dict)

    def due(self, names: list[str]) -> list[str]:
        """Those of ``names`` that may be asked for now; the others of the past are forgotten."""
        now = time.monotonic()
        self._next = {name: self._next[name] for name in names if name in self._next}
        ready = [name for name in names if self._next.get(name, (0.0, 0.0))[0] <= now]
        for name in ready:
            _, waited_s = self._next.get(name, (0.0, self.first_s / 2))
            wait_s = min(waited_s * 2, LONGEST_PATIENCE_S)
            self._next[name] = (now + wait_s, wait_s)
        return ready


class Dispatcher:
    """Does one look after another, on behalf of the leader.

    Args:
        aside: a thread in which the outlooks are taken, so that no look waits for them; None to take them in the look.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        models: Mapping[str, ModelSpec],
        database: Database,
        publisher: WorkPublisher,
        aside: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._publisher = WatchedPublisher(publisher)
        self._outlooks = OutlookTaker(settings, models, database)
        self._aside = aside
        self._granter = ChunkGranter(settings, models)
        self._prepare = Patience(settings.grant_patience_s)
        self._lead = Patience(settings.grant_patience_s)
        self._finish = Patience(settings.grant_patience_s / 2)
        self._webhooks = Patience(settings.grant_patience_s)
        self._leases_hold_until_s = 0.0

    def database_was_away(self) -> None:
        """Leave leases that ran out meanwhile alone for a moment, and believe nothing that was read before."""
        self._granter.forget()
        self._leases_hold_until_s = time.monotonic() + LEASE_GRACE_S

    def look(self) -> None:
        """Look at everything once.

        Raises:
            BrokerUnavailable, DatabaseUnavailable: look again later; nothing is lost.
        """
        try:
            with LOOKS.time():
                self._match_rows()
            self._publisher.ask_again()
        except BrokerUnavailable:
            self._tell_who_waits()
            raise
        self._tell_who_waits()

    def _match_rows(self) -> None:
        expire_jobs(database=self._database)
        escalate_jobs(database=self._database)
        workers = self._working()
        self._take_back(workers)
        self._publish_preparations()
        self._publish_leads()
        self._publish_finishes()
        self._publish_lost(workers)
        self._grant(workers)
        self._publish_webhooks()

    def _working(self) -> list[LiveWorker]:
        """The workers that take work, once those that only seem to are set apart."""
        with self._database.begin() as connection:
            workers = Workers(connection)
            for queue in workers.mark_stuck(patience_s=self._settings.claim_patience_s):
                log.error("worker_stuck", queue=queue, took_nothing_for_s=self._settings.claim_patience_s)
            return workers.live(silence_s=self._settings.worker_silence_s)

    def _live_workers(self) -> list[LiveWorker]:
        with self._database.begin() as connection:
            return Workers(connection).live(silence_s=self._settings.worker_silence_s)

    def _tell_who_waits(self) -> None:
        if not self._outlooks.is_due():
            return
        take = partial(
            self._outlooks.take, self._live_workers(), turns=self._granter.turns(), broker_away_s=self._publisher.away_s
        )
        if self._aside is None:
            take()
        else:
            self._aside.submit(take).add_done_callback(_log_failure)

    def _take_back(self, workers: list[LiveWorker]) -> None:
        with self._database.begin() as connection:
            dispatching = Dispatching(connection)
            n_expired = self._take_back_expired(dispatching)
            n_silent = dispatching.take_back_from_silent(
                [worker.queue for worker in workers], patience_s=self._settings.grant_patience_s
            )
            dispatching.stop_waiting()
        LEASES_TAKEN_OVER.inc(n_expired)
        TAKEN_FROM_SILENT.inc(n_silent)
        if n_expired or n_silent:
            log.warning("chunks_taken_back", n_lease_expired=n_expired, n_worker_silent=n_silent)

    def _take_back_expired(self, dispatching: Dispatching) -> int:
        if time.monotonic() < self._leases_hold_until_s:
            return 0
        return dispatching.take_back_expired(silence_s=self._settings.worker_silence_s)

    def _publish_preparations(self) -> None:
        with self._database.begin() as connection:
            waiting = list(Jobs(connection).unprepared(JOBS_AT_ONCE))
        for job_id in self._prepare.due(waiting):
            self._publisher.publish_prepare(job_id)

    def _publish_leads(self) -> None:
        with self._database.begin() as connection:
            waiting = list(Groups(connection).in_need(JOBS_AT_ONCE))
        for group_id in self._lead.due(waiting):
            self._publisher.publish_lead(group_id)

    def _publish_finishes(self) -> None:
        with self._database.begin() as connection:
            waiting = list(Dispatching(connection).finishable(patience_s=CALLBACK_PATIENCE_S, limit=JOBS_AT_ONCE))
        for job_id in self._finish.due(waiting):
            self._publisher.publish_finish(job_id)

    def _publish_webhooks(self) -> None:
        with self._database.begin() as connection:
            due = list(WebhookDeliveries(connection).due(at_once_per_tenant=RECEIVERS_AT_ONCE, limit=JOBS_AT_ONCE))
        for delivery_id in self._webhooks.due(due):
            self._publisher.publish_webhook(delivery_id)

    def _publish_lost(self, workers: list[LiveWorker]) -> None:
        """Publish again what was granted long enough ago and is in no queue.

        A queue that holds fewer messages than it has granted chunks has lost some: to a purge, to a wiped broker, to
        a dispatcher that died between its commit and its publish. The broker is asked only where a chunk is overdue:
        asking takes longer than the whole rest of a look.
        """
        with self._database.begin() as connection:
            granted = Dispatching(connection).unclaimed(patience_s=self._settings.grant_patience_s)
        suspects = [worker.queue for worker in workers if worker.queue in granted]
        ready = self._publisher.ready_counts(suspects) if suspects else {}
        for queue in suspects:
            n_lost = granted[queue] - ready.get(queue, 0)
            if n_lost > 0:
                self._publish_again(queue, n_lost)

    def _publish_again(self, queue: str, n_lost: int) -> None:
        patience_s = self._settings.grant_patience_s
        with self._database.begin() as connection:
            overdue = Dispatching(connection).overdue_grants(queue, patience_s=patience_s, at_most=n_lost)
        by_job: dict[str, list[Grant]] = defaultdict(list)
        for job_id, grant in overdue:
            by_job[job_id].append(grant)
        for job_id, grants in by_job.items():
            log.warning("grants_published_again", job_id=job_id, queue=queue, n_chunks=len(grants))
            GRANTS_PUBLISHED_AGAIN.inc(len(grants))
            self._publisher.publish_wave(job_id, grants)

    def _grant(self, workers: list[LiveWorker]) -> None:
        """Fill the free slots of every pool: committed first, published after."""
        try:
            with self._database.begin() as connection:
                waves = self._granter.grant(connection, workers)
        except Exception:
            self._granter.forget()
            raise
        for job_id, grants in waves.items():
            GRANTS.inc(len(grants))
            self._publisher.publish_wave(job_id, grants)


def _log_failure(taken: Future[None]) -> None:
    """An outlook that could not be taken grows old, and the next is taken soon."""
    error = taken.exception()
    if error is not None:
        log.warning("outlook_not_taken", reason=str(error), exc_info=error)
