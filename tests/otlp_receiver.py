"""A collector of traces: takes OTLP over HTTP and keeps the spans, as their protobuf says them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from posted_bodies import posted_bodies

ARRIVE_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """One span, and the process that sent it."""

    process: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    error: str
    attributes: dict[str, str]


@dataclass
class OtlpReceiver:
    """What has arrived."""

    endpoint: str
    spans: list[ReceivedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """As they came, for looking for what must not be there."""

    def wait_for(self, condition: Callable[[list[ReceivedSpan]], bool]) -> list[ReceivedSpan]:
        """The spans, once they fulfil a condition."""
        deadline = time.monotonic() + ARRIVE_WITHIN_S
        while not condition(list(self.spans)):
            names = sorted({f"{span.process}: {span.name}" for span in self.spans})
            assert time.monotonic() < deadline, f"only these spans arrived: {names}"
            time.sleep(0.05)
        return list(self.spans)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        for resource in request.resource_spans:
            process = {pair.key: pair.value.string_value for pair in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        process=process,
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        error=span.status.message,
                        attributes={
                            pair.key: pair.value.string_value or str(pair.value.int_value) for pair in span.attributes
                        },
                    )
                    for span in scope.spans
                ]


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A collector on a port of its own until the block ends."""

    receiver = OtlpReceiver("")

    def take(path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        receiver.take(body)

    with posted_bodies(take) as port:
        receiver.endpoint = f"http://127.0.0.1:{port}"
        yield receiver
