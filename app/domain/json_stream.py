"""A JSON object read while it arrives: its members one after another, a long list element by element.

Only the frame is read here, and as strictly as JSON has it; each value is cut out as it stands, for a real parser to
judge. Memory holds one value and one block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

import orjson

from app.domain.jsonl import ByteSource
from app.errors import InvalidJson, RequestTooLarge

BLOCK_BYTES = 1 << 20
_BLANKS = re.compile(rb"[ \t\n\r]*")
# A string, with its closing quote where that has arrived; or a bracket outside of strings.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(")?|[\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(rb"[,\]} \t\n\r]")
_OPENING = frozenset(b"[{")


class JsonStream:
    """The text of one JSON object, from its beginning to its end."""

    def __init__(self, source: ByteSource, *, max_value_bytes: int) -> None:
        """Read from ``source``.

        Args:
            max_value_bytes: the longest value, a list's elements counted one by one.
        """
        self._source = source
        self._max_value_bytes = max_value_bytes
        self._held = b""
        self._at = 0

    def members(self) -> Iterator[str]:
        """The name of each member; its value is to be taken with ``value`` or ``elements`` before the next.

        Raises:
            InvalidJson: the text is no JSON object, or goes on behind it.
        """
        self._expect(b"{", "the body must be a JSON object")
        if self._next() == b"}":
            self._at += 1
        else:
            while True:
                yield self._name()
                if self._take_one_of(b",", b"}") == b"}":
                    break
        if self._next():
            self._fail("there is more behind the object")

    def elements(self) -> Iterator[bytes] | None:
        """The text of each element of a list; None where the value is no list, which ``value`` then gives."""
        if self._next() != b"[":
            return None
        self._at += 1
        return self._elements()

    def value(self) -> bytes:
        """The text of a value; whether it is JSON is for a parser to say.

        Raises:
            InvalidJson: there is none, or the text ends within it.
            RequestTooLarge: it is longer than values may be.
        """
        first = self._next()
        if not first or first in b",:]}":
            self._fail("a value is missing")
        end = self._end_of_nested() if first in b'"[{' else self._end_of_scalar()
        text, self._at = self._held[self._at : end], end
        return text

    def _elements(self) -> Iterator[bytes]:
        if self._next() == b"]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._take_one_of(b",", b"]") == b"]":
                return

    def _name(self) -> str:
        if self._next() != b'"':
            self._fail("the name of a member is missing")
        name = self.value()
        self._expect(b":", "a colon is missing behind a name")
        try:
            return str(orjson.loads(name))
        except orjson.JSONDecodeError as error:
            raise InvalidJson(f"the body is not valid JSON: {error}") from error

    def _end_of_nested(self) -> int:
        """Where a string, list or object that begins here ends."""
        depth, place = 0, self._at
        while True:
            found = _TOKEN.search(self._held, place)
            if found is None or (self._held[found.start()] == _QUOTE and found[1] is None):
                place = self._more(len(self._held) if found is None else found.start())
                continue
            place = found.end()
            if found[1] is None:
                depth += 1 if self._held[found.start()] in _OPENING else -1
            if depth == 0:
                self._check_size(place)
                return place

    def _end_of_scalar(self) -> int:
        place = self._at
        while (found := _SCALAR_END.search(self._held, place)) is None:
            place = self._more(len(self._held))
        self._check_size(found.start())
        return found.start()

    def _more(self, place: int) -> int:
        """Read on within a value; gives where ``place`` is now.

        Raises:
            InvalidJson: the text ends here.
        """
        self._check_size(len(self._held))
        moved, self._at = self._at, 0
        block = self._source.read(BLOCK_BYTES)
        if not block:
            self._fail("it ends too early")
        self._held = self._held[moved:] + block
        return place - moved

    def _check_size(self, end: int) -> None:
        if end - self._at > self._max_value_bytes:
            raise RequestTooLarge(f"one value has more than {self._max_value_bytes} bytes")

    def _next(self) -> bytes:
        """The next byte that is not blank, which stays; b"" at the end of the text."""
        while True:
            self._at = _skipped(self._held, self._at)
            if self._at < len(self._held):
                return self._held[self._at : self._at + 1]
            self._held, self._at = self._source.read(BLOCK_BYTES), 0
            if not self._held:
                return b""

    def _expect(self, wanted: bytes, problem: str) -> None:
        if self._next() != wanted:
            self._fail(problem)
        self._at += 1

    def _take_one_of(self, *wanted: bytes) -> bytes:
        found = self._next()
        if found not in wanted:
            self._fail("it ends too early" if not found else f"{found!r} stands where a value has ended")
        self._at += 1
        return found

    def _fail(self, problem: str) -> NoReturn:
        raise InvalidJson(f"the body is not valid JSON: {problem}")


_QUOTE = ord('"')


def _skipped(text: bytes, place: int) -> int:
    found = _BLANKS.match(text, place)
    return found.end() if found else place
