"""Each fault of the proxy as a client meets it."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
from chaos.fault_proxy import LOOPBACK, FaultProxy

SOON_S = 0.2
LATER_S = 5


class _Shout(socketserver.BaseRequestHandler):
    """Answers each block in capitals, so that an answer is no echo of the proxy's."""

    def handle(self) -> None:
        while block := self.request.recv(65_536):
            self.server.heard.append(block)  # type: ignore[attr-defined]
            self.request.sendall(block.upper())


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Shout)
        self.heard: list[bytes] = []

    def handle_error(self, *_asked: object) -> None:
        """A reset connection is what these tests are about."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: _Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.server_address[1]) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with connect(proxy) as client:
        assert ask(client, b"hello") == b"HELLO"
        yield client


def connect(proxy: FaultProxy) -> socket.socket:
    client = socket.create_connection((LOOPBACK, proxy.port), timeout=LATER_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ask(client: socket.socket, block: bytes) -> bytes:
    client.sendall(block)
    return client.recv(65_536)


def is_silent(client: socket.socket) -> bool:
    client.settimeout(SOON_S)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(LATER_S)
    return False


def test_a_cut_resets_open_connections_and_no_new_ones(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.cut()
    with pytest.raises(ConnectionError):
        client.recv(1)
    with connect(proxy) as other:
        assert ask(other, b"again") == b"AGAIN"


def test_a_refusal_resets_open_connections_and_new_ones_until_it_heals(
    proxy: FaultProxy, client: socket.socket
) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionError):
        client.recv(1)
    # The scheduler decides whether the reset is met while connecting or while asking.
    with pytest.raises(ConnectionError), connect(proxy) as other:
        ask(other, b"again")
    proxy.heal()
    with connect(proxy) as other:
        assert ask(other, b"again") == b"AGAIN"


def test_a_black_hole_is_silent_and_delivers_late(proxy: FaultProxy, client: socket.socket, server: _Server) -> None:
    proxy.black_hole()
    client.sendall(b"lost?")
    with connect(proxy) as other:
        other.sendall(b"new")
        assert is_silent(client)
        assert is_silent(other)
        assert server.heard == [b"hello"]
        proxy.heal()
        assert client.recv(10) == b"LOST?"
        assert other.recv(10) == b"NEW"


def test_held_answers_let_the_server_hear(proxy: FaultProxy, client: socket.socket, server: _Server) -> None:
    proxy.hold_answers()
    client.sendall(b"commit")
    assert is_silent(client)
    assert server.heard == [b"hello", b"commit"]
    proxy.cut()
    with pytest.raises(ConnectionError):
        client.recv(1)


def test_a_half_open_connection_is_silent_and_ends_when_it_heals(
    proxy: FaultProxy, client: socket.socket, server: _Server
) -> None:
    proxy.half_open()
    client.sendall(b"anybody?")
    assert is_silent(client)
    assert server.heard == [b"hello"]
    proxy.heal()
    try:
        assert client.recv(1) == b""
    except ConnectionError as ended:
        assert ended  # noqa: PT017 - an end in order is as right as a reset


def test_a_delay_holds_each_block_for_its_time(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.delay(SOON_S)
    client.sendall(b"slow")
    assert is_silent(client)
    assert client.recv(10) == b"SLOW"


def test_a_stalled_connection_sends_so_many_bytes_and_the_rest_later(
    proxy: FaultProxy, client: socket.socket, server: _Server
) -> None:
    proxy.stall(3)
    client.sendall(b"message")
    assert client.recv(10) == b"MES"
    assert is_silent(client)
    proxy.heal()
    assert client.recv(10) == b"SAGE"
    assert b"".join(server.heard) == b"hellomessage"


def test_a_truncated_answer_ends_in_good_order(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.truncate(3)
    assert ask(client, b"message") == b"MES"
    assert client.recv(10) == b""


def test_a_told_answer_comes_without_the_server(proxy: FaultProxy, client: socket.socket, server: _Server) -> None:
    proxy.say(b"HTTP/1.1 500 Broken\r\n\r\n")
    with pytest.raises(ConnectionError):
        client.recv(1)
    with connect(proxy) as other:
        assert ask(other, b"GET /") == b"HTTP/1.1 500 Broken\r\n\r\n"
        assert other.recv(10) == b""
    assert server.heard == [b"hello"]


def test_nothing_stays_open_once_its_clients_have_left(proxy: FaultProxy, client: socket.socket) -> None:
    client.close()
    for _ in range(100):
        if not proxy.n_open:
            return
        threading.Event().wait(0.02)
    raise AssertionError(f"{proxy.n_open} connections are open")


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    with FaultProxy(port) as proxy, connect(proxy) as client:
        try:
            assert client.recv(1) == b""
        except ConnectionError as ended:
            assert ended  # noqa: PT017 - an end in order is as right as a reset
