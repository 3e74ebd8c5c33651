"""Identifiers: prefixed, ordered by time, and the same object under each dialect's prefix.

A job is ``job_X`` natively, ``batch_X`` in the OpenAI dialect and ``msgbatch_X`` in the Anthropic one, with one and the
same ``X``: 12 hex digits of milliseconds, then 20 random ones.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass

_SUFFIX = re.compile(r"[0-9a-f]{32}")
_REQUEST = re.compile(r"batch_req_([0-9a-f]{24})([0-9a-f]{8})([0-9a-f]{2})")
GROUP_PREFIX = "group_"
JOB_PREFIXES = ("job_", "batch_", "msgbatch_")


def new_suffix() -> str:
    """32 hex digits that sort by creation time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def new_id(prefix: str) -> str:
    """A fresh identifier, for example ``new_id("job_")``."""
    return prefix + new_suffix()


def job_id_from(text: str) -> str | None:
    """The ``job_`` id behind any dialect's id of a job; None where it cannot be one."""
    for prefix in JOB_PREFIXES:
        if text.startswith(prefix) and _SUFFIX.fullmatch(text[len(prefix) :]):
            return "job_" + text[len(prefix) :]
    return None


def batch_id(job_id: str) -> str:
    """A job's id in the OpenAI dialect."""
    return "batch_" + job_id.removeprefix("job_")


def message_batch_id(job_id: str) -> str:
    """A job's id in the Anthropic dialect."""
    return "msgbatch_" + job_id.removeprefix("job_")


def message_id(job_id: str, *, index: int) -> str:
    """The ``id`` of the message that an item of a job was answered with."""
    return f"msg_{job_id.removeprefix('job_')[:24]}{index:08x}"


@dataclass(frozen=True, slots=True)
class RequestRef:
    """What the id of an OpenAI result line says about its item."""

    index: int
    attempts: int


def batch_request_id(job_id: str, *, index: int, attempts: int) -> str:
    """The ``id`` of an OpenAI result line.

    It carries the item's index and attempts, so that an OpenAI part can be read natively without a second object.
    """
    return f"batch_req_{job_id.removeprefix('job_')[:24]}{index:08x}{min(attempts, 255):02x}"


def request_id_of_item(job_id: str, *, index: int, attempts: int) -> str:
    """The request id that a result line shows for its item."""
    return batch_request_id(job_id, index=index, attempts=attempts).replace("batch_req_", "req_")


def read_batch_request_id(text: str) -> RequestRef:
    """The index and attempts inside the ``id`` of an OpenAI result line.

    Raises:
        ValueError: not such an id.
    """
    match = _REQUEST.fullmatch(text)
    if match is None:
        raise ValueError(f"not the id of a batch request: {text[:80]!r}")
    return RequestRef(index=int(match[2], 16), attempts=int(match[3], 16))
