"""Collects the outcomes of a chunk: result lines by outcome, items to try again, and the sums."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from app.domain.chunks import Chunk, ChunkOutcome, ItemSpan, NewChunk, NewPart, part_of
from app.domain.items import ItemFailed, ItemOutcome, ItemSucceeded
from app.domain.result_lines import LineContext, failed_line, succeeded_line
from app.domain.retries import is_retryable, retry_delay_s
from app.ports import ObjectStore
from app.services.chunk_input import ReadItem

_Lines = list[tuple[int, bytes]]


@dataclass(slots=True)
class ChunkResults:
    """The outcomes of one run of a chunk; memory is bounded by the chunk's size."""

    context: LineContext
    max_attempts: int
    _waiting: dict[int, ReadItem] = field(default_factory=dict)
    _decided: set[int] = field(default_factory=set)
    _succeeded: _Lines = field(default_factory=list)
    _failed: _Lines = field(default_factory=list)
    _deferred: list[ItemSpan] = field(default_factory=list)
    _deferred_delay_s: float = 0.0
    _input_tokens: int = 0
    _output_tokens: int = 0
    _errors_by_code: Counter[str] = field(default_factory=Counter)

    def expect(self, read: ReadItem) -> None:
        """Note an item that will have an outcome."""
        self._waiting[read.span.index] = read

    def add(self, outcome: ItemOutcome, *, is_final: bool = False) -> None:
        """Take an item's outcome; exactly one for each that was expected.

        Args:
            is_final: whether a failure stands, however many attempts there may be.
        Raises:
            KeyError: the engine gave an outcome twice, or for an item that is not of this chunk.
        """
        read = self._waiting.pop(outcome.index)
        self._decided.add(outcome.index)
        attempts = read.span.attempts + 1
        attempts_of_run = attempts - read.span.attempts_before
        if isinstance(outcome, ItemSucceeded):
            self._input_tokens += outcome.input_tokens
            self._output_tokens += outcome.output_tokens
            line = succeeded_line(self.context, outcome, custom_id=read.custom_id, attempts=attempts)
            self._succeeded.append((outcome.index, line))
        elif is_retryable(outcome.code) and attempts_of_run < self.max_attempts and not is_final:
            self._defer(read.span, attempts, outcome)
        else:
            self._errors_by_code[str(outcome.code)] += 1
            line = failed_line(self.context, outcome, custom_id=read.custom_id, attempts=attempts)
            self._failed.append((outcome.index, line))

    @property
    def n_items(self) -> int:
        """Items that have an outcome or will be tried again."""
        return len(self._decided)

    def outcome(self, *, device_s: float, n_left: int = 0) -> ChunkOutcome:
        """The sums the chunk is closed with.

        Args:
            n_left: items without an outcome, which another chunk takes over.
        """
        return ChunkOutcome(
            n_succeeded=len(self._succeeded),
            n_failed=len(self._failed),
            n_deferred=len(self._deferred) + n_left,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            device_s=device_s,
            errors_by_code=dict(self._errors_by_code),
        )

    def upload(self, storage: ObjectStore, *, key_prefix: str) -> list[NewPart]:
        """Store one part per outcome that occurred, lines in the order of the input.

        Raises:
            StorageUnavailable: a part may be there already; nothing refers to it.
        """
        parts = []
        for outcome, lines in (("succeeded", self._succeeded), ("failed", self._failed)):
            if lines:
                content = b"".join(line for _, line in sorted(lines))
                stored = storage.put(f"{key_prefix}/{outcome}.jsonl", io.BytesIO(content), size_bytes=len(content))
                part = NewPart(
                    outcome=outcome,
                    object_key=stored.key,
                    size_bytes=stored.size_bytes,
                    n_items=len(lines),
                    sha256=stored.sha256,
                )
                parts.append(part)
        return parts

    def recovery_chunk(self, chunk: Chunk) -> NewChunk | None:
        """The chunk in which deferred items run again, where there are any."""
        if not self._deferred:
            return None
        return part_of(chunk, self._deferred, delay_s=self._deferred_delay_s)

    def without_outcome(self, spans: Iterable[ItemSpan]) -> list[ItemSpan]:
        """Those of a chunk's items that were not reached before the run was stopped."""
        return [span for span in spans if span.index not in self._decided]

    def _defer(self, span: ItemSpan, attempts: int, outcome: ItemFailed) -> None:
        self._deferred.append(replace(span, attempts=attempts))
        delay_s = retry_delay_s(attempt=attempts - span.attempts_before, retry_after_s=outcome.retry_after_s)
        self._deferred_delay_s = max(self._deferred_delay_s, delay_s)
