"""Accept a batch of messages out of a request body that is still arriving: its requests are stored as they come."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

from app.domain.ids import new_id
from app.domain.jobs import JobRequest
from app.domain.json_stream import JsonStream
from app.domain.jsonl import ByteSource
from app.domain.message_batches import MessageBatch, MessageRequests
from app.domain.states import JobState
from app.domain.windows import window_seconds
from app.errors import InvalidRequest, MissingParameter
from app.ports import StoredObject
from app.services.answer_once import Once
from app.services.check_receiver import check_job_webhook
from app.services.discard_object import discarded_unless_named
from app.services.limited_source import LimitedSource, drained_sha256
from app.services.message_batch_details import message_batches
from app.services.submit_job import asked_of, check_model, check_room, insert_job
from app.storage.line_stream import LineStream
from app.wiring import Wiring

MAX_OTHER_MEMBERS = 16


class MessageBatchBody(Protocol):
    """A request body that is still arriving."""

    content: BinaryIO
    api_version: str

    def finish(self, others: dict[str, bytes]) -> JobRequest:
        """Make the request of what the body holds beside the list ``requests``, as it stands there.

        Raises:
            InvalidRequest: a member is wrong, or nobody knows it.
        """
        ...


@dataclass(slots=True)
class _Arriving:
    """The requests of a body as input lines; what else it holds is kept until the end."""

    source: ByteSource
    requests: MessageRequests
    others: dict[str, bytes]

    def lines(self) -> Iterator[bytes]:
        stream = JsonStream(self.source, max_value_bytes=self.requests.max_line_bytes)
        for name in stream.members():
            if name != "requests":
                self._keep(name, stream.value())
                continue
            elements = stream.elements()
            if elements is None or self.requests.n_items:
                raise InvalidRequest("'requests' must be one list of requests.", param="requests")
            yield from map(self.requests.line, elements)
        if not self.requests.n_items:
            raise MissingParameter("'requests' must hold at least one request.", param="requests")

    def _keep(self, name: str, value: bytes) -> None:
        self.others[name] = value
        if len(self.others) > MAX_OTHER_MEMBERS:
            raise InvalidRequest(f"there is no field {name[:80]!r}", param=name[:80])


def submit_message_batch(
    *, wiring: Wiring, tenant_id: str, body: MessageBatchBody, once: Once[MessageBatch] | None = None
) -> MessageBatch:
    """Make a job in state ``validating``; once this returns, it is durable.

    Raises:
        InvalidRequest: the body is no JSON, or the frame of a request is wrong; ``param`` names which.
        ReceiverRefused: its webhook may not be sent there.
        TooManyAtOnce: names of such receivers are being looked up already, as many as may be.
        RequestTooLarge: the body, the number of requests or one of them is above the limit.
        QueueFull: the tenant has too many unfinished jobs.
        StorageQuotaExceeded: the tenant has no room for input and results.
        StorageUnavailable, DatabaseUnavailable: nothing was accepted; send it again.
    """
    limit = wiring.settings.max_message_batch_bytes
    too_large = f"the body is larger than {limit} bytes; make several batches of it"
    content = LimitedSource(body.content, limit, too_large=too_large, param="requests")
    if once is not None and once.is_repeat:
        once.repeat(_digest(body, drained_sha256(cast("BinaryIO", content))))
    in_turn = check_room(wiring, tenant_id)
    source = _HashedSource(content)
    requests = MessageRequests(wiring.settings.max_message_batch_items, wiring.settings.max_line_bytes)
    arriving = _Arriving(source, requests, others={})
    key = f"inputs/{tenant_id}/{uuid.uuid4().hex}"
    stored = wiring.storage.put(key, cast("BinaryIO", LineStream(arriving.lines())))
    with discarded_unless_named(wiring.storage, key):
        row = _row(wiring, tenant_id, body.finish(arriving.others), stored, n_items=requests.n_items)
        window_s = window_seconds(row["completion_window"])
        with wiring.database.begin() as connection:
            job = insert_job(connection, wiring.settings, window_s=window_s, row=row, in_turn=in_turn)
            (batch,) = message_batches(connection, wiring=wiring, tenant_id=tenant_id, jobs=[job])
            if once is not None:
                once.keep(connection, batch, body_sha256=_digest(body, source.sha256.hexdigest()))
            return batch


def _row(wiring: Wiring, tenant_id: str, request: JobRequest, stored: StoredObject, *, n_items: int) -> dict[str, Any]:
    check_job_webhook(wiring, tenant_id, request.webhook)
    if request.model is not None:
        check_model(request, wiring)
    return {
        "id": new_id("job_"),
        "tenant_id": tenant_id,
        "state": JobState.VALIDATING,
        **asked_of(request),
        "input_key": stored.key,
        "input_size_bytes": stored.size_bytes,
        "n_items": n_items,
    }


class _HashedSource:
    """Passes a source on and hashes it by the way."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data


def _digest(body: MessageBatchBody, sha256: str) -> bytes:
    """What makes two requests the same: their bytes and their version."""
    return hashlib.sha256(f"{body.api_version}\0{sha256}".encode()).digest()
