"""Spans by OpenTelemetry, sent as OTLP over HTTP; only ``tracing`` imports this, and only where tracing is on.

The exporter reads the standard ``OTEL_EXPORTER_OTLP_*`` variables for what a collector may ask beside its address:
headers, a certificate, compression.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.observability.ids import bound_ids
from app.observability.tracing import Attribute, Kind
from config.settings import Settings

SEND_EVERY_MS = 1_000
SEND_TIMEOUT_S = 5
_HEADER = "traceparent"
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_w3c = TraceContextTextMapPropagator()


class NotedSpan:
    """One of OpenTelemetry's, with our names; see ``tracing.Span``."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, **attributes: Attribute) -> None:
        """See ``tracing.Span.note``."""
        self._span.set_attributes(_named(attributes))

    def failed(self, error: BaseException) -> None:
        """Mark it by the class alone: what an error says may quote a client."""
        name = type(error).__name__
        self._span.set_attribute("error.type", name)
        self._span.set_status(Status(StatusCode.ERROR, name))


class OtlpSpans:
    """The spans of one process; what sends them starts with the first, which is after any fork."""

    def __init__(self, settings: Settings, *, process: str) -> None:
        self._settings = settings
        self._process = process
        self._starting = threading.Lock()
        self._provider: TracerProvider | None = None

    @contextmanager
    def span(
        self, name: str, parent: str | None, kind: Kind, attributes: Mapping[str, Attribute]
    ) -> Iterator[NotedSpan]:
        """See ``tracing.span``."""
        with self._tracer().start_as_current_span(
            name,
            context=_context_of(parent),
            kind=_KINDS[kind],
            attributes=_named({**bound_ids(), **attributes}),
            record_exception=False,
            set_status_on_exception=False,
        ) as current:
            noted = NotedSpan(current)
            with structlog.contextvars.bound_contextvars(trace_id=_trace_id(current)), _marked(noted):
                yield noted

    @contextmanager
    def stage(self, name: str, attributes: Mapping[str, Attribute]) -> Iterator[NotedSpan]:
        """See ``tracing.stage``."""
        started = self._tracer().start_span(name, attributes=_named(attributes))
        noted = NotedSpan(started)
        try:
            with _marked(noted):
                yield noted
        finally:
            started.end()

    def traceparent(self) -> str | None:
        """See ``tracing.traceparent``."""
        carrier: dict[str, str] = {}
        _w3c.inject(carrier)
        return carrier.get(_HEADER)

    def close(self) -> None:
        """Send what is left and end the thread."""
        with self._starting:
            if self._provider is not None:
                self._provider.shutdown()

    def _tracer(self) -> trace.Tracer:
        with self._starting:
            if self._provider is None:
                self._provider = self._start()
        return self._provider.get_tracer("nightshift")

    def _start(self) -> TracerProvider:
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(self._settings.traces_sampled_ratio)),
            resource=Resource(
                {
                    "service.namespace": "nightshift",
                    "service.name": f"nightshift-{self._process}",
                    "service.version": importlib.metadata.version("nightshift"),
                    "deployment.environment.name": self._settings.environment,
                    "host.name": self._settings.host_name,
                }
            ),
        )
        address = f"{self._settings.otlp_endpoint.rstrip('/')}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=address, timeout=SEND_TIMEOUT_S)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS))
        return provider


@contextmanager
def _marked(span: NotedSpan) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        span.failed(error)
        raise


def _context_of(parent: str | None) -> Context | None:
    """The context of ``parent``; None, which means the current one, where that is of the same trace."""
    if parent is None:
        return None
    context = _w3c.extract({_HEADER: parent}, context=Context())
    own = trace.get_current_span().get_span_context()
    return None if own.trace_id == _span_context(context).trace_id else context


def _span_context(context: Context) -> trace.SpanContext:
    return trace.get_current_span(context).get_span_context()


def _trace_id(span: trace.Span) -> str:
    return trace.format_trace_id(span.get_span_context().trace_id)


def _named(attributes: Mapping[str, Attribute]) -> dict[str, str | int | float | bool]:
    """Our own names under our own prefix; those with a dot are the field's."""
    return {
        name if "." in name else f"nightshift.{name}": value for name, value in attributes.items() if value is not None
    }
