"""A TCP proxy that misbehaves when told to, to stand between Nightshift's processes and one backing server.

It runs in a thread of its own. A fault holds for open connections and for new ones until ``heal`` or the next fault;
``cut`` happens once. Bytes that are held are delivered when the fault ends, as a healed network delivers what was sent
again and again meanwhile.

What it cannot do: lose a connection attempt. The kernel answers it, so a black hole is met as silence after connecting.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

LOOPBACK = "127.0.0.1"
BLOCK_BYTES = 65_536
READY_WITHIN_S = 10
SAID_WITHIN_S = 2.0
RESET = struct.pack("ii", 1, 0)
"""``SO_LINGER`` for which closing a socket resets the connection instead of ending it in order."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong now; nothing by default.

    Attributes:
        refuses: new connections are reset.
        holds_requests: nothing that clients send goes on to the server.
        holds_answers: nothing that the server sends goes back.
        delay_s: how long each block waits before it goes on.
        requests_stop_after: bytes of each connection that still go to the server; the rest is held.
        answers_end_after: bytes of each connection that still come back; then it ends in order, as if all was said.
        says: what every new connection is told, without asking the server.
    """

    refuses: bool = False
    holds_requests: bool = False
    holds_answers: bool = False
    delay_s: float = 0.0
    requests_stop_after: int | None = None
    answers_end_after: int | None = None
    says: bytes | None = None


HEALTHY = Fault()


@dataclass(eq=False, slots=True)
class _Link:
    """One connection of a client, the connection to the server that belongs to it, and what passed under the fault."""

    task: asyncio.Task[Any]
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    n_request_bytes: int = 0
    n_answer_bytes: int = 0

    def reset(self) -> None:
        """End both connections as a crash of the other side would be noticed."""
        for writer in filter(None, (self.client, self.server)):
            connection = writer.get_extra_info("socket")
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        if self.task is not asyncio.current_task():
            self.task.cancel()


class FaultProxy:
    """Listens on a free loopback port and passes everything on to ``target_port`` while nothing is wrong."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._fault = HEALTHY
        self._links: set[_Link] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"fault-proxy-{target_port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(READY_WITHIN_S), "the proxy does not listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(READY_WITHIN_S)

    # -- what may go wrong

    def heal(self) -> None:
        """Pass everything on again; what was held is delivered."""
        self._change(HEALTHY)

    def cut(self) -> None:
        """Reset every open connection; new ones are as good as before."""
        self._change(self._fault, reset=True)

    def refuse(self) -> None:
        """Reset every connection, open and new, as if no server was there."""
        self._change(Fault(refuses=True), reset=True)

    def black_hole(self) -> None:
        """Pass nothing on in either direction; connections stay open and silent."""
        self._change(Fault(holds_requests=True, holds_answers=True))

    def hold_answers(self) -> None:
        """Let the server hear everything, and the client nothing: whatever it asked for may have happened."""
        self._change(Fault(holds_answers=True))

    def half_open(self) -> None:
        """End the server's side of every connection without a word to the client; new connections stay silent."""
        self._change(Fault(holds_requests=True, holds_answers=True), forget_server=True)

    def delay(self, seconds: float) -> None:
        """Let each block wait before it goes on."""
        self._change(Fault(delay_s=seconds))

    def stall(self, n_bytes: int) -> None:
        """Pass ``n_bytes`` more of each connection's requests on and hold the rest."""
        self._change(Fault(requests_stop_after=n_bytes))

    def truncate(self, n_bytes: int) -> None:
        """End each connection, in good order, after ``n_bytes`` more of the server's answers."""
        self._change(Fault(answers_end_after=n_bytes))

    def say(self, answer: bytes) -> None:
        """Give every new connection this answer, whatever it asks; open connections are reset."""
        self._change(Fault(says=answer), reset=True)

    @property
    def n_open(self) -> int:
        """Connections of clients that are open now."""
        return len(self._links)

    # -- the thread

    def _change(self, fault: Fault, *, reset: bool = False, forget_server: bool = False) -> None:
        async def change() -> None:
            async with self._changed:
                self._fault = fault
                for link in self._links:
                    link.n_request_bytes = link.n_answer_bytes = 0
                    if reset:
                        link.reset()
                    elif forget_server and link.server is not None:
                        link.server.transport.abort()
                self._changed.notify_all()

        self._call(change())

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(READY_WITHIN_S)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Condition()
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._connected, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        tasks = [link.task for link in self._links]
        for link in list(self._links):
            link.reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(task, writer)
        self._links.add(link)
        try:
            await self._serve_link(link, reader)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._links.discard(link)
            for side in filter(None, (link.client, link.server)):
                side.close()

    async def _serve_link(self, link: _Link, reader: asyncio.StreamReader) -> None:
        if self._fault.refuses:
            link.reset()
            return
        if self._fault.says is not None:
            await _tell(reader, link.client, self._fault.says)
            return
        await self._released(is_answer=False)
        server_reader, link.server = await asyncio.open_connection(LOOPBACK, self._target_port)
        pumps = [
            asyncio.create_task(self._pump(link, reader, link.server, is_answer=False)),
            asyncio.create_task(self._pump(link, server_reader, link.client, is_answer=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        """Pass one direction on until it ends."""
        while block := await self._read(reader, is_answer=is_answer):
            await asyncio.sleep(self._fault.delay_s)
            await self._released(is_answer=is_answer)
            if is_answer:
                ends_after = self._fault.answers_end_after
                if ends_after is not None and link.n_answer_bytes + len(block) > ends_after:
                    writer.write(block[: ends_after - link.n_answer_bytes])
                    await writer.drain()
                    return
                link.n_answer_bytes += len(block)
            else:
                block = await self._stalled(link, block, writer)
            writer.write(block)
            await writer.drain()

    async def _read(self, reader: asyncio.StreamReader, *, is_answer: bool) -> bytes:
        """Read a block; an end is a word as well, and is held as every other."""
        try:
            block = await reader.read(BLOCK_BYTES)
        except OSError:
            block = b""
        if not block:
            await self._released(is_answer=is_answer)
        return block

    async def _stalled(self, link: _Link, block: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Pass on what a stalled connection may still send; gives the rest, once it may go."""
        stops_after = self._fault.requests_stop_after
        if stops_after is None:
            return block
        n_allowed = max(0, stops_after - link.n_request_bytes)
        link.n_request_bytes += len(block)
        if len(block) <= n_allowed:
            return block
        writer.write(block[:n_allowed])
        await writer.drain()
        async with self._changed:
            await self._changed.wait_for(lambda: self._fault.requests_stop_after is None)
        return block[n_allowed:]

    async def _released(self, *, is_answer: bool) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: not (self._fault.holds_answers if is_answer else self._fault.holds_requests)
            )


async def _tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Answer whatever is asked, and read on until the client has had its say: a reset would swallow the answer."""
    await reader.read(BLOCK_BYTES)
    writer.write(answer)
    await writer.drain()
    writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(SAID_WITHIN_S):
            while await reader.read(BLOCK_BYTES):
                pass
