"""What a client's ``Idempotency-Key`` stands for, and the answer that is kept under it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import InvalidRequest

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 255
_KEY = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_CHARS}}}")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A creating request, named by its client. The same key of another tenant or on another route is another one."""

    tenant_id: str | None
    """None for the administrator."""
    route: str
    """Method and path, for example ``POST /v1/jobs``."""
    key: str

    def __post_init__(self) -> None:
        """Check the key.

        Raises:
            InvalidRequest: it is empty, too long, or holds anything but visible ASCII.
        """
        if _KEY.fullmatch(self.key) is None:
            message = f"'{HEADER}' must be 1 to {MAX_KEY_CHARS} visible ASCII characters, without blanks"
            raise InvalidRequest(message, param=HEADER)

    @property
    def label(self) -> str:
        """All of it in one text."""
        return f"{self.tenant_id or ''}\n{self.route}\n{self.key}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a creating request was answered with."""

    status: int
    headers: dict[str, str]
    """Only those that belong to what was created, such as ``Location``."""
    body: bytes


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it is kept."""

    body_sha256: bytes
    """Digest of the request's body."""
    status: int
    headers: dict[str, str]
    sealed_body: bytes
    """The answer's body, readable only with the server's secret: it may hold a new API key."""
