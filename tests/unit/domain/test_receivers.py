"""Where webhooks may be sent, whatever notation an address comes in."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.receivers import ReceiverPolicy, carried_ipv4, is_public, receiver_of
from app.errors import ReceiverRefused

PUBLIC_ONLY = ReceiverPolicy.of(ports=(443, 8443), receivers=())
TRUSTING = ReceiverPolicy.of(ports=(443,), receivers=("10.1.0.0/16", "::1/128", "hooks.internal"))
PUBLIC = ("93.184.215.14", "2606:4700::1111")


@pytest.mark.parametrize("address", [*PUBLIC, "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_an_address_in_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104 - nothing is bound here
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "fd00::1",
        "ff02::1",
        "2001:db8::1",
        "2001:0:7f00:1::",
        "192.0.0.192",
        "192.88.99.1",
        "3fff::1",
    ],
)
def test_an_address_that_leads_inside_is_not(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "64:ff9b:1::1"],
)
def test_nor_is_one_that_carries_such_an_address_inside_ipv6(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_however_ipv6_carries_it(address: IPv4Address) -> None:
    number = int(address)
    for carrier in ((0xFFFF << 32) + number, int(IPv6Address("64:ff9b::")) + number, (0x2002 << 112) + (number << 80)):
        assert carried_ipv4(IPv6Address(carrier)) == address
        assert is_public(IPv6Address(carrier)) == is_public(address)


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.0.0.1", "127.1", "017700000001"])
def test_an_address_in_an_odd_notation_is_judged_by_what_it_stands_for(host: str) -> None:
    receiver = receiver_of(f"https://{host}/")
    addresses = [str(found[4][0]) for found in socket.getaddrinfo(receiver.host, None, type=socket.SOCK_STREAM)]
    with pytest.raises(ReceiverRefused, match="public address"):
        PUBLIC_ONLY.check(receiver, addresses)


def test_a_name_with_one_private_address_among_its_public_ones_is_refused() -> None:
    with pytest.raises(ReceiverRefused, match="public address"):
        PUBLIC_ONLY.check(receiver_of("https://example.com/"), [*PUBLIC, "10.0.0.1"])


def test_https_to_public_addresses_on_an_allowed_port_is_allowed() -> None:
    PUBLIC_ONLY.check(receiver_of("https://example.com/"), PUBLIC)
    PUBLIC_ONLY.check(receiver_of("https://example.com:8443/"), PUBLIC)


@pytest.mark.parametrize(
    ("url", "said"), [("http://example.com/", "https only"), ("https://example.com:22/", "port 443, 8443 only")]
)
def test_another_scheme_or_port_is_refused(url: str, said: str) -> None:
    with pytest.raises(ReceiverRefused, match=said):
        PUBLIC_ONLY.check(receiver_of(url), PUBLIC)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://10.1.2.3:9000/", ["10.1.2.3"]),
        ("http://some.name/", ["10.1.2.3", "::1"]),
        ("http://hooks.internal:1/", ["192.168.0.1"]),
        ("http://[::ffff:10.1.0.1]/", ["::ffff:10.1.0.1"]),
    ],
)
def test_a_receiver_that_the_operator_trusts_may_be_private_and_plain(url: str, addresses: list[str]) -> None:
    TRUSTING.check(receiver_of(url), addresses)


@pytest.mark.parametrize("addresses", [["10.2.0.1"], ["10.1.0.1", "10.2.0.1"], ["10.1.0.1", *PUBLIC]])
def test_trust_in_one_network_says_nothing_about_another(addresses: list[str]) -> None:
    with pytest.raises(ReceiverRefused):
        TRUSTING.check(receiver_of("http://some.name/"), addresses)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "ftp://example.com/",
        "https:///hook",
        "https://user@example.com/",
        "https://example.com@10.0.0.1/",
        "https://example.com\\@10.0.0.1/",
        "https://example.com/#part",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: x",
        "https://ex\u00e4mple.com/",
        "https://%31%32%37.0.0.1/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:x/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_an_address_that_is_malformed_or_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(ReceiverRefused):
        receiver_of(url)


def test_an_address_is_taken_apart_once() -> None:
    receiver = receiver_of("HTTPS://Example.COM:8443/a%20b?c=d")
    assert (receiver.scheme, receiver.host, receiver.port) == ("https", "example.com", 8443)
    assert (receiver.target, receiver.authority) == ("/a%20b?c=d", "example.com:8443")
    assert receiver_of("http://[::1]").authority == "[::1]"


@given(st.text(max_size=80))
def test_no_text_at_all_is_more_than_refused(text: str) -> None:
    for url in (text, f"https://{text}"):
        try:
            receiver = receiver_of(url)
        except ReceiverRefused:
            continue
        assert receiver.host
        assert receiver.target.startswith("/")


@pytest.mark.parametrize("url", ["http://nowhere.example/", "https://nowhere.example:22/"])
def test_what_would_be_refused_wherever_it_leads_is_so_before_its_name_resolves(url: str) -> None:
    with pytest.raises(ReceiverRefused):
        PUBLIC_ONLY.check_unresolved(receiver_of(url))
    TRUSTING.check_unresolved(receiver_of(url))  # it may lead to a network that is trusted


def test_a_name_that_does_not_resolve_yet_may_do_so_later() -> None:
    PUBLIC_ONLY.check_unresolved(receiver_of("https://nowhere.example/"))
