"""Traces: one for each job, from the request that submits it to the callback that ends it, over all processes.

Off unless ``NIGHTSHIFT_OTLP_ENDPOINT`` names a collector: then nothing that makes spans is imported, and each call here
costs as much as a comparison. A span holds ids, names and counts. URLs, payloads and messages of errors hold clients'
text and stay out, which is why the spans are made here and not by instrumenting the libraries.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol

from config.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from app.observability.otlp import OtlpSpans

Attribute = str | int | float | bool | None
Kind = Literal["internal", "server", "producer", "consumer"]


class Span(Protocol):
    """Something that is being done."""

    def note(self, **attributes: Attribute) -> None:
        """Say more about it; None says nothing."""
        ...


class _NoSpan(AbstractContextManager["_NoSpan"]):
    def note(self, **attributes: Attribute) -> None:
        """Nobody asks."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """End nothing."""


_NO_SPAN = _NoSpan()
_spans: OtlpSpans | None = None


def init_tracing(settings: Settings, *, process: str) -> None:
    """Send this process's spans to the collector that the settings name; without one, do nothing.

    The exporter and its thread start with the first span, so this may be called before a fork.
    """
    global _spans  # noqa: PLW0603 - one per process, like Sentry
    if not settings.otlp_endpoint:
        return
    from app.observability.otlp import OtlpSpans  # noqa: PLC0415 - costs 0.2 s where nobody wants traces

    _spans = OtlpSpans(settings, process=process)


def close_tracing() -> None:
    """Send what is not sent yet; for processes that end without Python's own farewell."""
    if _spans is not None:
        _spans.close()


def is_on() -> bool:
    """Whether spans go anywhere."""
    return _spans is not None


def span(
    name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: Attribute
) -> AbstractContextManager[Span]:
    """Do something under a span of its own; log lines inside carry its ``trace_id``. Not for generators.

    Args:
        parent: a ``traceparent`` whose trace the span belongs to, where the current span is of none or of another.
        attributes: ids, names and counts.
    """
    return _NO_SPAN if _spans is None else _spans.span(name, parent, kind, attributes)


def stage(name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
    """A step of the current span that has no steps of its own; may be used in a generator."""
    return _NO_SPAN if _spans is None else _spans.stage(name, attributes)


def traceparent() -> str | None:
    """Where we are, as the W3C header says it; None outside of a trace."""
    return None if _spans is None else _spans.traceparent()
