"""An OpenAI-compatible server that does what a test tells it: it answers, is busy, stalls, drips or talks nonsense."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from config.models import UpstreamServer

Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """One reply."""

    status: int = 200
    body: Any = None
    """Sent as JSON; bytes as they are."""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.0
    """Pause between the bytes of the body."""


@dataclass(slots=True)
class ScriptedUpstream:
    """What the server was asked, and how it answers."""

    url: str
    answer: Callable[[Request], Said]
    requests: list[Request] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def server(self, **fields: Any) -> UpstreamServer:
        """As an entry of the models file."""
        values = {"api_key_variable": None, "max_concurrency": 16, "request_timeout_s": 10.0, **fields}
        return UpstreamServer(base_url=self.url, model="upstream-name", **values)

    @contextmanager
    def counted(self, request: Request, path: str, key: str | None) -> Iterator[None]:
        """Note a request while it is being answered."""
        with self._lock:
            self.requests.append(request)
            self.paths.append(path)
            self.keys.append(key)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


def completion(request: Request) -> Said:
    """A chat completion that repeats the last message."""
    said = request["messages"][-1]["content"]
    message = {"role": "assistant", "content": said}
    usage = {"prompt_tokens": len(said), "completion_tokens": 2, "total_tokens": len(said) + 2}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": request["model"], "choices": [choice]}
    return Said(body={**body, "created": 1, "usage": usage})


def error(status: int, message: str, code: str | None = None, **headers: str) -> Said:
    """An error in the shape of the protocol."""
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(status, {"error": {"message": message, "code": code}}, shown)


@contextmanager
def scripted_upstream(answer: Callable[[Request], Said] = completion) -> Iterator[ScriptedUpstream]:
    """Serve on loopback until the block ends."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.daemon_threads = True
    upstream = ScriptedUpstream(f"http://127.0.0.1:{httpd.server_port}/v1", answer)
    httpd.upstream = upstream  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield upstream
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        upstream: ScriptedUpstream = self.server.upstream  # type: ignore[attr-defined]
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with upstream.counted(request, self.path, self.headers.get("authorization")):
            said = upstream.answer(request)
            time.sleep(said.delay_s)
        self._send(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are counted, not printed."""

    def _send(self, said: Said) -> None:
        content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        try:
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            for block in [content] if not said.drip_s else [content[i : i + 1] for i in range(len(content))]:
                self.wfile.write(block)
                time.sleep(said.drip_s)
        except OSError:
            self.close_connection = True  # the client gave up, as clients do
