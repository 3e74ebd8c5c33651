"""The dispatcher process: leader by advisory lock, woken by NOTIFY, at latest every second.

Run two of them; the second stands by and takes over as soon as the first one's database session ends.
"""

from __future__ import annotations

import select
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import FrameType

import psycopg2
import structlog
from psycopg2.extensions import connection as PgConnection  # noqa: N812 - a class, whatever its name
from psycopg2.extensions import cursor as PgCursor  # noqa: N812 - likewise

from app.db.notify import listening_session
from app.db.repositories.leadership import LEADER_LOCK
from app.db.session import Database
from app.errors import BrokerUnavailable, DatabaseUnavailable
from app.metrics_server import start_metrics_server
from app.observability.sentry import init_sentry
from app.observability.tracing import init_tracing, is_on
from app.ports import WorkPublisher
from app.services.dispatch import Dispatcher
from app.services.traced_publisher import TracedPublisher
from app.wiring import process_wiring
from config.logging import configure_logging
from config.settings import Settings, load_settings
from tasks.celery_app import app as celery_app
from tasks.publisher import CeleryPublisher
from workers.topology_keeper import TopologyKeeper

log = structlog.get_logger(__name__)

LEADER_SILENCE_S = 20.0
"""Longer than a look takes, whatever is slow; a leader says something each time."""
BROKER_PAUSE_S = 1.0

_END_FROZEN_LEADER = """
    SELECT l.pid, pg_terminate_backend(l.pid)
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = %(lock)s AND l.objsubid = 1
        AND a.datname = current_database() AND a.state = 'idle'
        AND a.state_change < clock_timestamp() - make_interval(secs => %(silence_s)s)
"""


class Leadership:
    """One database session that holds the leader's lock and hears NOTIFY; both end with the session.

    A leader that is frozen keeps its session and says nothing. Whoever stands by ends that session, and the lock with
    it. Should the frozen one wake in the middle of a look, two look at once, which is harmless: each change is fenced
    by the state of its row, and messages may come twice. At its next turn it finds that it leads no longer.
    """

    def __init__(self, url: str, *, connect_timeout_s: float, silence_s: float = LEADER_SILENCE_S) -> None:
        """Nothing is contacted yet.

        Args:
            silence_s: a leader whose session has been idle for so long is taken for frozen.
        """
        self._url = url
        self._connect_timeout_s = connect_timeout_s
        self._silence_s = silence_s
        self._session: PgConnection | None = None
        self.is_leader = False

    def acquire(self) -> bool:
        """Whether this process leads now; asks for the lock where it does not hold it.

        Raises:
            psycopg2.OperationalError: the database does not answer, so this process leads no longer.
        """
        try:
            session = self._session or self._connect()
            with session.cursor() as cursor:
                if self.is_leader:
                    cursor.execute("SELECT 1")
                else:
                    cursor.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,))
                    row = cursor.fetchone()
                    self.is_leader = bool(row and row[0])
                    if not self.is_leader:
                        self._end_frozen_leader(cursor)
        except psycopg2.Error:
            self.close()
            raise
        return self.is_leader

    def wait(self, timeout_s: float) -> None:
        """Sleep until somebody notifies, at most ``timeout_s``."""
        session = self._session
        if session is None:
            time.sleep(timeout_s)
            return
        readable, _, _ = select.select([session], [], [], timeout_s)
        if readable:
            session.poll()
            session.notifies.clear()

    def close(self) -> None:
        """End the session, and with it the leadership."""
        self.is_leader = False
        if self._session is not None:
            self._session.close()
            self._session = None

    def _end_frozen_leader(self, cursor: PgCursor) -> None:
        cursor.execute(_END_FROZEN_LEADER, {"lock": LEADER_LOCK, "silence_s": self._silence_s})
        if ended := cursor.fetchall():
            log.warning("frozen_leader_ended", backends=[pid for pid, _ in ended])

    def _connect(self) -> PgConnection:
        self._session = listening_session(
            self._url, connect_timeout_s=self._connect_timeout_s, application_name="nightshift-dispatcher"
        )
        return self._session


class DispatcherProcess:
    """Looks again and again while it leads, stands by while another does."""

    def __init__(self, settings: Settings, dispatcher: Dispatcher, leadership: Leadership) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._leadership = leadership
        self._stopping = False
        self._led = False

    def run(self) -> None:
        """Work until ``stop``."""
        while not self._stopping:
            self._turn()
        self._leadership.close()

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Signal handler: end after the current look."""
        self._stopping = True

    def _turn(self) -> None:
        try:
            leads = self._leadership.acquire()
            self._announce(leads=leads)
            if leads:
                self._dispatcher.look()
            self._leadership.wait(self._settings.dispatch_interval_s)
        except BrokerUnavailable as error:
            log.warning("broker_unavailable", error=str(error))
            time.sleep(BROKER_PAUSE_S)
        except (DatabaseUnavailable, psycopg2.Error) as error:
            self._dispatcher.database_was_away()
            log.warning("database_unavailable", error=str(error).strip())
            time.sleep(self._settings.dispatch_interval_s)

    def _announce(self, *, leads: bool) -> None:
        if leads != self._led:
            self._led = leads
            log.info("leading" if leads else "standing_by")


def _publisher(database: Database) -> WorkPublisher:
    publisher = CeleryPublisher(celery_app)
    return TracedPublisher(publisher, database) if is_on() else publisher


def main() -> None:
    """Run the dispatcher of this environment."""
    settings = load_settings()
    configure_logging(level=settings.log_level, process="dispatcher")
    init_sentry(settings, process="dispatcher")
    init_tracing(settings, process="dispatcher")
    wiring = process_wiring()
    database = wiring.database
    aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outlook")
    dispatcher = Dispatcher(
        settings=settings, models=wiring.models, database=database, publisher=_publisher(database), aside=aside
    )
    metrics = start_metrics_server(wiring)
    leadership = Leadership(settings.database_url, connect_timeout_s=settings.connect_timeout_s)
    process = DispatcherProcess(settings, dispatcher, leadership)
    topology = TopologyKeeper(settings, leads=lambda: leadership.is_leader)
    topology.start()
    signal.signal(signal.SIGTERM, process.stop)
    signal.signal(signal.SIGINT, process.stop)
    log.info("dispatcher_started")
    with closing(metrics), closing(topology), aside:
        process.run()


if __name__ == "__main__":
    main()
