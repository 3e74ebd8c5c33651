"""The lane of the listeners to events: one thread for all of a process, whatever their number.

A listener holds its connection for as long as its job runs and is told little. A thread of the API for each would leave
none for requests; so once the head of the answer is sent, its socket is handed over to this lane, which reads what is
new for all listeners in one look at the database. A look is taken when somebody notifies, but not more often than every
``LOOK_PAUSE_S``, and every ``POLL_S`` at least.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import psycopg2
import structlog
from psycopg2.extensions import connection as PgConnection  # noqa: N812 - a class, whatever its name

from app.db.notify import listening_session
from app.domain.live_events import HEARTBEAT
from app.errors import DatabaseUnavailable, TooManyListeners
from app.services.follow_events import Feed, JobFeed, read_feeds
from app.wiring import Wiring

log = structlog.get_logger(__name__)

LOOK_PAUSE_S = 0.2
POLL_S = 1.0
HEARTBEAT_S = 15.0
"""Below what proxies allow a silent connection, which is 30 to 60 s."""
SILENCE_S = 30.0
"""A listener that has not read what it was sent for this long has gone."""
RECONNECT_S = 5.0
FULL_RETRY_S = 10.0
TENANT_SHARE = 2
"""No tenant may hold more than one place in so many."""
GROUP_PAUSE_S = 2.0
"""Between two looks at a group."""
MOST_UNSENT_BYTES = 256 * 1024
"""A listener that reads slowly is not told more until it has read; nothing is lost, as its mark stays."""


@dataclass(slots=True, eq=False)
class Listener:
    """One connection."""

    connection: socket.socket
    feed: Feed
    is_chunked: bool
    unsent: bytearray = field(default_factory=bytearray)
    sent_at_s: float = field(default_factory=time.monotonic)
    looked_at_s: float = -math.inf

    def is_due(self, now_s: float) -> bool:
        """Whether to look for what it is to be told: a group's counts cost a look at all of its members."""
        if self.feed.has_ended or len(self.unsent) >= MOST_UNSENT_BYTES:
            return False
        return isinstance(self.feed, JobFeed) or now_s - self.looked_at_s >= GROUP_PAUSE_S

    def say(self, data: bytes) -> None:
        """Put data behind what is still to be sent."""
        self.unsent += b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data

    def say_goodbye(self) -> None:
        """End the answer."""
        if self.is_chunked:
            self.unsent += b"0\r\n\r\n"

    def send(self) -> None:
        """Send what the connection takes now.

        Raises:
            OSError: the other side has gone.
        """
        if self.unsent:
            with contextlib.suppress(BlockingIOError):
                n_sent = self.connection.send(self.unsent)
                del self.unsent[:n_sent]
                self.sent_at_s = time.monotonic()


class EventLane:
    """The listeners of one process. Its thread begins with the first and stays."""

    def __init__(self, wiring: Wiring) -> None:
        """Nothing is begun yet, so that no thread and no connection crosses a fork."""
        self._wiring = wiring
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._arrived: deque[Listener] = deque()
        self._listeners: set[Listener] = set()
        self._n_of_tenant: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._session: PgConnection | None = None
        self._session_fd = -1
        self._connect_at_s = 0.0
        self._looked_at_s = 0.0
        self._is_news = False
        self._wake_reader = self._wake_writer = -1

    def check_room(self, tenant_id: str) -> None:
        """Refuse where as many listen as may, in all or of one tenant.

        Raises:
            TooManyListeners: come back later.
        """
        most = self._wiring.settings.event_listeners
        with self._lock:
            n_listeners, n_own = self._n_of_tenant.total(), self._n_of_tenant[tenant_id]
        if n_listeners >= most or n_own >= max(1, most // TENANT_SHARE):
            message = "As many listen to events as this server serves; come back later, or poll."
            raise TooManyListeners(message, retry_after_s=FULL_RETRY_S)

    def adopt(self, connection: socket.socket, feed: Feed, *, is_chunked: bool) -> None:
        """Take a connection over whose answer has begun; nobody else may write to it any more."""
        connection.setblocking(False)
        with self._lock:
            if self._thread is None:
                self._wake_reader, self._wake_writer = os.pipe()
                os.set_blocking(self._wake_reader, False)
                self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
                self._thread = threading.Thread(target=self._run, name="event-lane", daemon=True)
                self._thread.start()
            self._n_of_tenant[feed.tenant_id] += 1
        self._arrived.append(Listener(connection, feed, is_chunked))
        os.write(self._wake_writer, b"x")

    def _run(self) -> None:
        while True:
            try:
                self._turn()
            except Exception:
                log.exception("event_lane_failed")
                time.sleep(POLL_S)

    def _turn(self) -> None:
        for key, events in self._selector.select(self._pause_s()):
            if isinstance(key.data, Listener):
                self._serve(key.data, events)
            elif key.fd == self._wake_reader:
                os.read(self._wake_reader, 4096)
            else:
                self._hear()
        while self._arrived:
            listener = self._arrived.popleft()
            self._listeners.add(listener)
            self._selector.register(listener.connection, selectors.EVENT_READ, listener)
            self._is_news = True
        self._keep_session()
        if time.monotonic() >= self._next_look_s():
            self._look()
        self._keep_alive()

    def _pause_s(self) -> float | None:
        if not self._listeners and not self._arrived:
            return None
        return max(0.0, self._next_look_s() - time.monotonic())

    def _next_look_s(self) -> float:
        return self._looked_at_s + (LOOK_PAUSE_S if self._is_news else POLL_S)

    def _look(self) -> None:
        """Read what is new for everybody who has read what they were sent."""
        self._looked_at_s, self._is_news = time.monotonic(), False
        ready = [listener for listener in self._listeners if listener.is_due(self._looked_at_s)]
        if not ready:
            return
        for listener in ready:
            listener.looked_at_s = self._looked_at_s
        try:
            told = read_feeds(wiring=self._wiring, feeds=[listener.feed for listener in ready])
        except DatabaseUnavailable as error:
            log.warning("events_not_read", reason=error.message)
            return
        for listener, data in zip(ready, told, strict=True):
            if data:
                self._is_news = True  # there may be more than one look tells
                listener.say(data)
                if listener.feed.has_ended:
                    listener.say_goodbye()
                self._send(listener)

    def _serve(self, listener: Listener, events: int) -> None:
        if events & selectors.EVENT_READ and _has_gone(listener.connection):
            self._drop(listener)
        elif events & selectors.EVENT_WRITE:
            self._send(listener)

    def _send(self, listener: Listener) -> None:
        try:
            listener.send()
        except OSError:
            self._drop(listener)
            return
        if not listener.unsent and listener.feed.has_ended:
            self._drop(listener)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if listener.unsent else 0)
        self._selector.modify(listener.connection, wanted, listener)

    def _keep_alive(self) -> None:
        now = time.monotonic()
        for listener in list(self._listeners):
            quiet_s = now - listener.sent_at_s
            if listener.unsent and quiet_s > SILENCE_S:
                self._drop(listener)
            elif not listener.unsent and quiet_s > HEARTBEAT_S:
                listener.say(HEARTBEAT)
                self._send(listener)

    def _drop(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        with self._lock:
            self._n_of_tenant -= Counter([listener.feed.tenant_id])
        self._selector.unregister(listener.connection)
        listener.connection.close()

    def _keep_session(self) -> None:
        """Hear NOTIFY while somebody listens; without it a look is taken every ``POLL_S`` all the same."""
        if self._session is not None or time.monotonic() < self._connect_at_s:
            return
        self._connect_at_s = time.monotonic() + RECONNECT_S
        settings = self._wiring.settings
        try:
            self._session = listening_session(
                settings.database_url,
                connect_timeout_s=settings.connect_timeout_s,
                application_name="nightshift-events",
            )
        except psycopg2.Error as error:
            log.warning("events_not_heard", reason=str(error).strip())
            return
        # By its number: a session that has broken does not tell it any more.
        self._session_fd = self._session.fileno()
        self._selector.register(self._session_fd, selectors.EVENT_READ, None)

    def _hear(self) -> None:
        session = self._session
        if session is None:
            return
        try:
            session.poll()
            session.notifies.clear()
        except psycopg2.Error:
            self._selector.unregister(self._session_fd)
            session.close()
            self._session = None
        self._is_news = True


def _has_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed; what it says is of no interest."""
    try:
        return not connection.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True
