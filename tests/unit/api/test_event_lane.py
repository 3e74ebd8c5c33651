"""A listener that reads slowly gets everything, in order and well framed, and holds nobody up."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest

from app.api.event_lane import Listener
from app.domain.live_events import Mark
from app.services.follow_events import JobFeed

CONTENT = b"".join(b"event: chunk\ndata: %d\n\n" % number for number in range(60_000))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of one connection: ours, which does not block, and the listener's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def _listener(connection: socket.socket, *, is_chunked: bool) -> Listener:
    return Listener(connection, JobFeed("tenant_1", "job_1", Mark(0), starts_in=None), is_chunked)


@pytest.mark.parametrize("is_chunked", [True, False])
def test_what_does_not_fit_is_kept_and_sent_when_it_does(
    ends: tuple[socket.socket, socket.socket], *, is_chunked: bool
) -> None:
    ours, theirs = ends
    listener = _listener(ours, is_chunked=is_chunked)
    for start in range(0, len(CONTENT), 50_000):
        listener.say(CONTENT[start : start + 50_000])
    listener.say_goodbye()
    began_s = time.monotonic()
    listener.send()
    listener.send()
    assert time.monotonic() - began_s < 1
    assert listener.unsent
    got = b""
    while listener.unsent:
        got += theirs.recv(1_000_000)
        listener.send()
    ours.shutdown(socket.SHUT_WR)
    while block := theirs.recv(1_000_000):
        got += block
    assert (_unchunked(got) if is_chunked else got) == CONTENT


def test_one_that_has_hung_up_is_noticed(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    listener = _listener(ours, is_chunked=True)
    theirs.close()
    listener.say(CONTENT)
    with pytest.raises(OSError, match=r"pipe|reset"):
        listener.send()


def _unchunked(framed: bytes) -> bytes:
    content, rest = b"", framed
    while True:
        match = re.match(rb"([0-9a-f]+)\r\n", rest)
        assert match, rest[:40]
        size, rest = int(match[1], 16), rest[match.end() :]
        assert rest[size : size + 2] == b"\r\n"
        if size == 0:
            return content
        content, rest = content + rest[:size], rest[size + 2 :]
