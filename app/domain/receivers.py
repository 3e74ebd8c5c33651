"""Where a webhook may be sent. Pure: names are resolved elsewhere, and what they resolve to is judged here.

A tenant chooses the address and the server connects to it, so an address must not lead into the network that the server
stands in. What a name resolves to is judged when the receiver is named and again for the very address that is connected
to: a name may resolve to something else by then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from app.errors import ReceiverRefused

MAX_URL_CHARS = 2048
_DEFAULT_PORTS = {"https": 443, "http": 80}
# Visible ASCII without what parsers of addresses disagree about.
_URL = re.compile(r"[!-~]+")
_DISPUTED = re.compile(r"[\\\"<>^`{|}]")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]")

# IPv6 in which an IPv4 address travels, by the number of bits behind it: translation (RFC 6052) and its forerunners.
_CARRIES_IPV4: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
# What older tables of the standard library take for public, among it addresses of clouds' metadata services.
_NEVER_PUBLIC: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("3fff::/20"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2001::/23"),
    IPv6Network("fec0::/10"),
)


@dataclass(frozen=True, slots=True)
class Receiver:
    """An address, taken apart once, so that nobody else reads it differently."""

    scheme: str
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ReceiverPolicy:
    """Which receivers this installation allows."""

    ports: frozenset[int]
    """Of public receivers."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    """Private receivers that the operator trusts: any port, and plain ``http``."""

    @classmethod
    def of(cls, *, ports: Iterable[int], receivers: Sequence[str]) -> ReceiverPolicy:
        """Read the settings; each of ``receivers`` is a network or a host name."""
        networks, hosts = [], set()
        for name in receivers:
            try:
                networks.append(ip_network(name))
            except ValueError:
                hosts.add(name)
        return cls(frozenset(ports), tuple(networks), frozenset(hosts))

    def check(self, receiver: Receiver, addresses: Sequence[str]) -> None:
        """Refuse a receiver one of whose addresses may not be reached; all must be allowed, whichever is taken.

        Raises:
            ReceiverRefused: says which rule it breaks, and never what a private name resolves to.
        """
        if addresses and all(self._is_trusted(receiver, ip_address(address)) for address in addresses):
            return
        if receiver.scheme != "https":
            raise ReceiverRefused("A webhook is sent over https only.")
        if receiver.port not in self.ports:
            ports = ", ".join(map(str, sorted(self.ports)))
            raise ReceiverRefused(f"A webhook is sent to port {ports} only; this is {receiver.port}.")
        for address in map(ip_address, addresses):
            if not self._is_trusted(receiver, address) and not is_public(address):
                raise ReceiverRefused(f"{receiver.host[:80]!r} is not, or does not only lead to, a public address.")

    def check_unresolved(self, receiver: Receiver) -> None:
        """The same, as far as it can be told while the name of a receiver does not resolve.

        Raises:
            ReceiverRefused: whatever it resolves to one day, nothing would be sent there.
        """
        if not self.networks and receiver.host not in self.hosts:
            self.check(receiver, [])

    def _is_trusted(self, receiver: Receiver, address: IPv4Address | IPv6Address) -> bool:
        if receiver.host in self.hosts:
            return True
        either = [address, carried_ipv4(address) or address]
        return any(one in network for network in self.networks for one in either if one.version == network.version)


def receiver_of(url: str) -> Receiver:
    """Take an address apart.

    Raises:
        ReceiverRefused: it is malformed, or could be read in two ways.
    """
    if len(url) > MAX_URL_CHARS:
        raise ReceiverRefused(f"The address has {len(url)} characters, {MAX_URL_CHARS} at most.")
    if not _URL.fullmatch(url) or _DISPUTED.search(url):
        raise ReceiverRefused("The address holds characters that must be percent-encoded.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ReceiverRefused("This is not an address such as https://hooks.example.com/jobs.") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ReceiverRefused("This is not an address such as https://hooks.example.com/jobs.")
    if "@" in parts.netloc or "#" in url:
        raise ReceiverRefused("The address may hold neither a user nor a fragment.")
    if port == 0 or not _HOST.fullmatch(parts.netloc.rpartition(":")[0] if port else parts.netloc.rstrip(":")):
        raise ReceiverRefused("The host of the address is neither a name nor an IP address; write it in ASCII.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Receiver(parts.scheme, parts.hostname.lower(), port or _DEFAULT_PORTS[parts.scheme], target)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is out in the internet, also by the IPv4 address that it may carry."""
    plain = carried_ipv4(address) or address
    if any(plain in network for network in _NEVER_PUBLIC if network.version == plain.version):
        return False
    return plain.is_global and not (plain.is_multicast or plain.is_reserved or plain.is_unspecified)


def carried_ipv4(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside an IPv6 one, where the network would turn one into the other."""
    if isinstance(address, IPv4Address):
        return None
    for network, n_bits_behind in _CARRIES_IPV4:
        if address in network:
            return IPv4Address(int(address) >> n_bits_behind & 0xFFFFFFFF)
    return None
