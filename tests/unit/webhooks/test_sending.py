"""One webhook, once: to the address that was judged, within its time, and no further."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from webhook_receiver import Reply, WebhookReceiver, own_authority, webhook_receiver

from app.domain.receivers import ReceiverPolicy
from app.webhooks.resolver import NameNotResolved, SystemResolver
from app.webhooks.sender import WebhookSender

HOST = "hooks.example.com"
TENANT = "tenant_1"
LOOPBACK = ReceiverPolicy.of(ports=(443,), receivers=("127.0.0.0/8",))
PUBLIC_ONLY = ReceiverPolicy.of(ports=tuple(range(1, 65_536)), receivers=())


class Answers:
    """A resolver that gives one answer after another, as a name does that is rebound."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def addresses(self, host: str, *, tenant_id: str, timeout_s: float) -> list[str]:
        assert (tenant_id, timeout_s > 0) == (TENANT, True)
        self.asked.append(host)
        if not self.answers:
            raise NameNotResolved(host)
        return self.answers.pop(0)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as made:
        yield made


def _sender(
    policy: ReceiverPolicy = LOOPBACK, *, timeout_s: float = 5, resolver: Answers | None = None
) -> WebhookSender:
    return WebhookSender(policy, timeout_s=timeout_s, resolver=resolver)


def _send(sender: WebhookSender, url: str) -> tuple[int | None, str | None]:
    attempt = sender.send(url, tenant_id=TENANT, headers={"webhook-id": "evt_1"}, body='{"a": 1}')
    return attempt.status, attempt.error


def test_it_arrives_as_it_was_sent(receiver: WebhookReceiver) -> None:
    attempt = _sender().send(
        f"{receiver.url}?a=b", tenant_id=TENANT, headers={"webhook-id": "evt_1"}, body='{"a": "\u00e4"}'
    )
    assert attempt.was_taken
    (got,) = receiver.received
    assert (got.path, got.id, got.event) == ("/hook?a=b", "evt_1", {"a": "\u00e4"})
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/json"


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(receiver: WebhookReceiver) -> None:
    resolver = Answers(["127.0.0.1"], ["10.0.0.1"])
    assert _send(_sender(resolver=resolver), f"http://{HOST}:{receiver.port}/hook") == (200, None)
    assert resolver.asked == [HOST]
    assert receiver.received[0].headers["host"] == f"{HOST}:{receiver.port}"


def test_a_name_that_was_rebound_to_a_private_address_is_refused_at_the_connection(receiver: WebhookReceiver) -> None:
    resolver = Answers(["93.184.215.14"], ["127.0.0.1"])
    assert resolver.addresses(HOST, tenant_id=TENANT, timeout_s=1) == ["93.184.215.14"]  # when it was registered
    sender = _sender(PUBLIC_ONLY, resolver=resolver)
    assert _send(sender, f"https://{HOST}:{receiver.port}/") == (None, "receiver_refused")
    assert receiver.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost"])
def test_loopback_is_refused_however_it_is_written(receiver: WebhookReceiver, host: str) -> None:
    sender = WebhookSender(PUBLIC_ONLY, timeout_s=5, resolver=SystemResolver())
    assert _send(sender, f"https://{host}:{receiver.port}/") == (None, "receiver_refused")
    assert receiver.received == []


def test_a_redirect_is_not_followed(receiver: WebhookReceiver) -> None:
    with webhook_receiver() as inside:
        receiver.reply = lambda _: Reply(302, {"Location": inside.url})
        attempt = _sender().send(receiver.url, tenant_id=TENANT, headers={}, body="{}")
        assert (attempt.status, attempt.was_taken) == (302, False)
        assert inside.received == []


def test_tls_asks_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    server_tls, client_tls = own_authority(tmp_path, HOST)
    with webhook_receiver(tls=server_tls) as receiver:
        sender = WebhookSender(LOOPBACK, timeout_s=5, resolver=Answers(["127.0.0.1"]), ssl_context=client_tls)
        assert _send(sender, f"https://{HOST}:{receiver.port}/") == (200, None)
        assert receiver.received[0].server_name == HOST
        assert receiver.received[0].headers["host"] == f"{HOST}:{receiver.port}"


@pytest.mark.parametrize("known", [True, False])
def test_a_certificate_that_is_not_for_this_name_or_of_an_unknown_authority_is_no_receiver(
    tmp_path: Path, *, known: bool
) -> None:
    server_tls, client_tls = own_authority(tmp_path, "other.example.com" if known else HOST)
    with webhook_receiver(tls=server_tls) as receiver:
        resolver = Answers(["127.0.0.1"])
        sender = WebhookSender(LOOPBACK, timeout_s=5, resolver=resolver, ssl_context=client_tls if known else None)
        assert _send(sender, f"https://{HOST}:{receiver.port}/") == (None, "tls_failed")
        assert receiver.received == []


@pytest.mark.parametrize("reply", [Reply(delay_s=3), Reply(drip_s=0.1)])
def test_a_receiver_that_answers_slowly_is_left_in_time(receiver: WebhookReceiver, reply: Reply) -> None:
    receiver.reply = lambda _: reply
    began_s = time.monotonic()
    assert _send(_sender(timeout_s=0.4), receiver.url) == (None, "timeout")
    assert time.monotonic() - began_s < 2


def test_a_long_answer_is_not_read(receiver: WebhookReceiver) -> None:
    receiver.reply = lambda _: Reply(200, body=b"x" * 50_000_000)
    began_s = time.monotonic()
    assert _send(_sender(), receiver.url) == (200, None)
    assert time.monotonic() - began_s < 2


def test_nobody_there_is_told_apart_from_a_name_without_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert _send(_sender(), f"http://127.0.0.1:{port}/") == (None, "connection_failed")
    assert _send(_sender(resolver=Answers()), f"https://{HOST}/") == (None, "name_not_resolved")


def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(receiver: WebhookReceiver) -> None:
    resolver = Answers(["127.0.0.2", "127.0.0.1"])
    assert _send(_sender(resolver=resolver), f"http://{HOST}:{receiver.port}/hook") == (200, None)


@pytest.mark.parametrize("said", [b"this is no HTTP\r\n\r\n", b""])
def test_a_server_that_speaks_something_else_is_no_receiver(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(said)

        thread = threading.Thread(target=speak)
        thread.start()
        assert _send(_sender(), f"http://127.0.0.1:{server.getsockname()[1]}/") == (None, "not_http")
        thread.join()
