"""A TLS front before a server that speaks none, with a certificate of an authority of its own."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

BLOCK_BYTES = 65_536
PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs, and the file by which it is trusted."""

    ca: trustme.CA
    file: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """A fresh one, its certificate in the folder."""
        ca, file = trustme.CA(), folder / "authority.pem"
        ca.cert_pem.write_to_path(str(file))
        return cls(ca, file)


@contextmanager
def tls_front(authority: Authority, *, to_port: int, name: str = "127.0.0.1") -> Iterator[int]:
    """Serve TLS on a port of this host, given, with a certificate for ``name``; pass all on to ``to_port``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.ca.issue_cert(name).configure_cert(context)

    class Passing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(("127.0.0.1", to_port), PATIENCE_S) as server,
            ):
                back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                back.start()
                _pass_on(client, server)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Passing) as front:
        front.daemon_threads = True
        front.block_on_close = False
        serving = threading.Thread(target=front.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield front.server_address[1]
        finally:
            front.shutdown()
            serving.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(BLOCK_BYTES):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
