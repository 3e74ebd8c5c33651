"""What an input line must be before its job may run, and what it says.

A line that is not a JSON object, or has no usable or a repeated ``custom_id``, refuses the whole input. In the OpenAI
dialect ``method``, ``url`` and ``model`` are checked here as well. Whatever is wrong only with a line's *body* is left
to the item itself.

In the Anthropic dialect a line has ``params`` in place of ``body``; they become a body as the item is read.
"""

from __future__ import annotations

import hashlib
import heapq
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from app.domain.items import InputItem, ItemErrorCode, ItemFailed
from app.domain.jobs import Dialect
from app.domain.jsonl import Line
from app.domain.message_params import ApiVersion, chat_request
from app.errors import InvalidRequest, MissingParameter

CUSTOM_ID_MAX_CHARS = 512
MAX_DEPTH = 100
MAX_REPORTED_PROBLEMS = 100
# What a file begins with that is no text in UTF-8.
_NOT_JSONL = {
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


@dataclass(frozen=True, slots=True)
class LineProblem:
    """Why a line refuses its whole input; ``line`` counts from 1, None where the input as a whole is meant."""

    line: int | None
    code: str
    message: str
    param: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The shape in which jobs keep and show it."""
        return {"line": self.line, "code": self.code, "message": self.message, "param": self.param}

    def storable(self) -> dict[str, Any]:
        """The same, as Postgres keeps it: there is no NUL in jsonb."""
        shown = self.as_dict()
        return {name: text.replace("\x00", "") if isinstance(text, str) else text for name, text in shown.items()}


class SeenIds(Protocol):
    """Remembers by digest which ``custom_id`` stood on which line."""

    def add(self, digest: bytes, number: int) -> int | None:
        """Note a line; gives the first line of that digest where it is known at once that this is a repeat."""
        ...

    def repeats(self) -> Iterator[tuple[int, int]]:
        """(line, first line) of every repeat that ``add`` did not tell, in any order; at the end, once."""
        ...


class SeenInMemory:
    """About a hundred bytes a line."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}

    def add(self, digest: bytes, number: int) -> int | None:
        """See ``SeenIds.add``."""
        first = self._first.setdefault(digest, number)
        return None if first == number else first

    def repeats(self) -> Iterator[tuple[int, int]]:
        """See ``SeenIds.repeats``: all were told."""
        return iter(())


@dataclass(slots=True)
class InputCheck:
    """Checks the lines of one input, one after another, and remembers what spans lines.

    Memory: what ``seen`` keeps for each line; the number of lines is capped.
    """

    dialect: Dialect
    endpoint: str
    max_items: int
    max_line_bytes: int
    model: str | None = None
    """The job's model; where it names none, the first that a line names (natively: one of ``usable_models``)."""
    usable_models: frozenset[str] | None = None
    """Models that serve the endpoint, None for any name. A job must not take over one line's misspelt model."""
    n_items: int = 0
    problems: list[LineProblem] = field(default_factory=list)
    n_problems: int = 0
    is_not_jsonl: bool = False
    """Whether the input is no JSONL at all: it is refused with one problem that says what it is."""
    seen: SeenIds = field(default_factory=SeenInMemory)

    def check(self, line: Line) -> bool:
        """Check the next line; True where it may run."""
        self.n_items += 1
        if self.n_items == 1 and self._is_something_else(line):
            return False
        if self.n_items > self.max_items:
            if self.n_items == self.max_items + 1:
                message = f"The input has more than {self.max_items} lines; split it into several jobs."
                self._report(None, "too_many_requests_in_file", message)
            return False
        parsed = self._parse(line)
        return parsed is not None and self._check_request(line.number, parsed)

    @property
    def is_hopeless(self) -> bool:
        """Whether reading on is pointless: there are too many lines, or none that could be read."""
        return self.n_items > self.max_items or self.is_not_jsonl

    def finish(self) -> None:
        """Check what only the end of the input tells."""
        if self.n_items == 0:
            self._report(None, "empty_file", "The input has no lines; send at least one request.")
        repeats = heapq.nsmallest(MAX_REPORTED_PROBLEMS, self._late_repeats())
        found = [_repeat(number, first, "The 'custom_id'") for number, first in repeats]
        if found:
            self.problems = sorted([*self.problems, *found], key=_place)[:MAX_REPORTED_PROBLEMS]

    def _late_repeats(self) -> Iterator[tuple[int, int]]:
        for repeat in self.seen.repeats():
            self.n_problems += 1
            yield repeat

    def _is_something_else(self, line: Line) -> bool:
        start_of_line = line.data or b""
        found = next((what for start, what in _NOT_JSONL.items() if start_of_line.startswith(start)), None)
        if found is not None:
            self.is_not_jsonl = True
            self._report(line.number, "invalid_json_line", f"The file is {found}; upload plain JSON lines in UTF-8.")
        return found is not None

    def _parse(self, line: Line) -> dict[str, Any] | None:
        if line.data is None:
            message = f"The line has {line.size_bytes} bytes; the limit is {self.max_line_bytes}."
            self._report(line.number, "line_too_long", message)
            return None
        parsed, why = parse_object(line.data)
        if parsed is None:
            self._report(line.number, "invalid_json_line", why)
        return parsed

    def _check_request(self, number: int, parsed: dict[str, Any]) -> bool:
        before = self.n_problems
        self._check_custom_id(number, parsed.get("custom_id"))
        name = body_field(self.dialect)
        if name not in parsed:
            self._report(number, "missing_required_parameter", f"The line has no '{name}'.", name)
        if self.dialect is Dialect.OPENAI or "method" in parsed or "url" in parsed:
            self._check_envelope(number, parsed)
        body = parsed.get(name)
        if isinstance(body, dict):
            self._check_body(number, body)
        return self.n_problems == before

    def _check_custom_id(self, number: int, custom_id: Any) -> None:
        if custom_id is None:
            self._report(number, "missing_required_parameter", "The line has no 'custom_id'.", "custom_id")
        elif not isinstance(custom_id, str) or not custom_id or len(custom_id) > CUSTOM_ID_MAX_CHARS:
            message = f"'custom_id' must be a string of 1 to {CUSTOM_ID_MAX_CHARS} characters."
            self._report(number, "invalid_value", message, "custom_id")
        else:
            digest = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
            first = self.seen.add(digest, number)
            if first is not None:
                self._add(_repeat(number, first, f"'custom_id' {_shown(custom_id)}"))

    def _check_envelope(self, number: int, parsed: dict[str, Any]) -> None:
        if parsed.get("method") != "POST":
            message = f"'method' must be \"POST\", not {_shown(parsed.get('method'))}."
            self._report(number, "invalid_method", message, "method")
        if parsed.get("url") != self.endpoint:
            message = f"'url' must be the endpoint of the batch, {self.endpoint!r}, not {_shown(parsed.get('url'))}."
            self._report(number, "invalid_url", message, "url")

    def _check_body(self, number: int, body: dict[str, Any]) -> None:
        model = body.get("model")
        if self.model is None and isinstance(model, str) and self._may_be_the_jobs(model):
            self.model = model
        if self.dialect is not Dialect.OPENAI:
            return
        if body.get("stream"):
            self._report(number, "streaming_unsupported", "'stream' is not possible in a batch.", "body.stream")
        if model is None:
            self._report(number, "missing_required_parameter", "The body names no 'model'.", "body.model")
        elif model != self.model:
            message = f"All lines must name one model: this one names {_shown(model)}, not {_shown(self.model)}."
            self._report(number, "mismatched_model", message, "body.model")

    def _may_be_the_jobs(self, model: str) -> bool:
        return self.dialect is Dialect.OPENAI or self.usable_models is None or model in self.usable_models

    def _report(self, line: int | None, code: str, message: str, param: str | None = None) -> None:
        self._add(LineProblem(line, code, message, param))

    def _add(self, problem: LineProblem) -> None:
        self.n_problems += 1
        if len(self.problems) < MAX_REPORTED_PROBLEMS:
            self.problems.append(problem)


def body_field(dialect: Dialect) -> str:
    """The field of a line that holds what is asked of the model."""
    return "params" if dialect is Dialect.ANTHROPIC else "body"


def _repeat(number: int, first: int, what: str) -> LineProblem:
    message = f"{what} stands on line {first} already; every line needs its own."
    return LineProblem(number, "duplicate_custom_id", message, "custom_id")


def _place(problem: LineProblem) -> int:
    """By line; what concerns the input as a whole comes last."""
    return sys.maxsize if problem.line is None else problem.line


def parse_object(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """Parse a line that must hold one JSON object.

    Returns:
        The object and "", or None and what is wrong with the line.
    """
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return None, f"The line is not valid JSON: {error.msg} (column {error.colno})."
    if not isinstance(parsed, dict):
        return None, "The line is valid JSON but not an object."
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _nests_deeper_than(parsed, MAX_DEPTH):
        return None, f"The line nests deeper than {MAX_DEPTH} levels."
    return parsed, ""


def _nests_deeper_than(parsed: dict[str, Any], limit: int) -> bool:
    """Whether containers stand inside one another more than ``limit`` deep; walks one level at a time."""
    level: list[Any] = [parsed]
    for _ in range(limit):
        children = (container.values() if isinstance(container, dict) else container for container in level)
        level = [child for some in children for child in some if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _shown(value: Any) -> str:
    """A client's value as an error message may hold it: short, printable, without NUL."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    cut = text if len(text) <= 60 else text[:60] + "..."
    return repr(cut)


@dataclass(frozen=True, slots=True)
class ItemDefaults:
    """What a job adds to each of its items."""

    model: str | None
    parameters: dict[str, Any]
    endpoint: str
    known_models: frozenset[str]
    dialect: Dialect = Dialect.NATIVE
    api_version: str | None = None
    """Of a batch of messages."""


def read_item(parsed: dict[str, Any], *, index: int, attempt: int, defaults: ItemDefaults) -> InputItem | ItemFailed:
    """Make an item of a line that passed :class:`InputCheck`; a wrong body becomes its failure."""
    name = body_field(defaults.dialect)
    body = parsed.get(name)
    if not isinstance(body, dict):
        return ItemFailed(index, ItemErrorCode.INVALID_REQUEST, f"'{name}' must be a JSON object.")
    merged = {**defaults.parameters, **body}
    model = merged.setdefault("model", defaults.model)
    if model is None:
        return ItemFailed(
            index, ItemErrorCode.MISSING_REQUIRED_PARAMETER, "Neither the item nor its job names a 'model'."
        )
    try:
        asked = _for_engine(merged, defaults)
    except InvalidRequest as problem:
        return ItemFailed(index, _code_of(problem), problem.message)
    if model != defaults.model:
        return _wrong_model(index, model, defaults)
    return InputItem(index=index, custom_id=parsed["custom_id"], body=asked, attempt=attempt)


def _for_engine(body: dict[str, Any], defaults: ItemDefaults) -> dict[str, Any]:
    if defaults.dialect is not Dialect.ANTHROPIC:
        return body
    return chat_request(body, version=ApiVersion(defaults.api_version or ApiVersion.FIRST))


def _code_of(problem: InvalidRequest) -> ItemErrorCode:
    is_missing = isinstance(problem, MissingParameter)
    return ItemErrorCode.MISSING_REQUIRED_PARAMETER if is_missing else ItemErrorCode.INVALID_REQUEST


def _wrong_model(index: int, model: Any, defaults: ItemDefaults) -> ItemFailed:
    if model not in defaults.known_models if isinstance(model, str) else True:
        return ItemFailed(
            index, ItemErrorCode.MODEL_NOT_FOUND, f"There is no model {_shown(model)}; see GET /v1/models."
        )
    if defaults.model is None:
        message = f"Model {_shown(model)} does not serve {defaults.endpoint}; see GET /v1/models."
        return ItemFailed(index, ItemErrorCode.INVALID_REQUEST, message)
    message = f"The item names model {_shown(model)} but its job runs {_shown(defaults.model)}; send it in another job."
    return ItemFailed(index, ItemErrorCode.INVALID_REQUEST, message)
