"""Answer a creating request once, however often it is sent.

The answer is kept in the very transaction that creates, under the client's ``Idempotency-Key``. So a key whose request
was refused, failed or died is free again, a commit whose outcome the client never heard of is found by its next try,
and of two requests at once the second waits in Postgres for the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NoReturn, TypeVar

from sqlalchemy import Connection

from app.db.repositories.idempotency_keys import IdempotencyKeys
from app.domain.idempotency import HEADER, Answer, KeptAnswer, RequestKey
from app.domain.sealing import seal, unseal
from app.errors import IdempotencyKeyInUse, IdempotencyKeyReused, StateConflict
from app.wiring import Wiring

Created_contra = TypeVar("Created_contra", contravariant=True)
MOST_WAIT_S = 10


class AlreadyAnswered(Exception):  # no error: it carries the answer past the service
    """The same request was answered before; nothing was created now."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Once(Generic[Created_contra]):
    """One creating request under its key. The service that creates calls ``keep`` before it commits."""

    def __init__(
        self,
        *,
        wiring: Wiring,
        request: RequestKey,
        body_sha256: bytes | None,
        render: Callable[[Created_contra], Answer],
    ) -> None:
        """Look for an answer from before.

        Args:
            body_sha256: None where the body is still arriving; the service then knows its digest in time.
            render: makes the answer of what was created.
        Raises:
            AlreadyAnswered, IdempotencyKeyReused: see ``repeat``; only where the digest is known.
        """
        self._wiring = wiring
        self._request = request
        self._body_sha256 = body_sha256
        self._render = render
        self.answer: Answer | None = None
        """What this request itself has kept."""
        self._earlier: KeptAnswer | None = None
        self.look_again()

    @property
    def is_repeat(self) -> bool:
        """Whether the key has an answer from before; then the body is to be read for its digest only."""
        return self._earlier is not None

    def look_again(self) -> None:
        """Look for an answer that was kept since this request came in.

        Raises:
            AlreadyAnswered, IdempotencyKeyReused: there is one; see ``repeat``.
        """
        with self._wiring.database.begin() as connection:
            self._earlier = self._keys(connection).find(self._request)
        if self.is_repeat and self._body_sha256 is not None:
            self.repeat(self._body_sha256)

    def repeat(self, body_sha256: bytes) -> NoReturn:
        """Answer as before.

        Raises:
            AlreadyAnswered: with the first answer.
            IdempotencyKeyReused: the first request had another body.
        """
        if self._earlier is None:  # swept between two statements
            raise IdempotencyKeyInUse("this Idempotency-Key has just expired; send the request again", retry_after_s=1)
        if self._earlier.body_sha256 != body_sha256:
            message = f"this {HEADER} was sent before with another request; use a new one for a new request"
            raise IdempotencyKeyReused(message, param=HEADER)
        raise AlreadyAnswered(self._unsealed(self._earlier))

    def keep(self, connection: Connection, created: Created_contra, *, body_sha256: bytes | None = None) -> None:
        """Keep the answer, to be committed together with what was created. A second call replaces it by a fuller one.

        Raises:
            AlreadyAnswered, IdempotencyKeyReused: another request was quicker; nothing may be committed now.
            IdempotencyKeyInUse: another request has held the key for too long.
        """
        digest = self._body_sha256 or body_sha256
        if digest is None:
            raise AssertionError("a streamed body's digest must be given")
        answer = self._render(created)
        kept, keys = self._sealed(answer, digest), self._keys(connection)
        if self.answer is not None:
            keys.replace(self._request, kept)
        elif not keys.add(self._request, kept, wait_s=MOST_WAIT_S):
            self._earlier = keys.find(self._request)
            self.repeat(digest)
        self.answer = answer

    def _keys(self, connection: Connection) -> IdempotencyKeys:
        return IdempotencyKeys(connection, max_age_s=self._wiring.settings.idempotency_retention_s)

    def _sealed(self, answer: Answer, body_sha256: bytes) -> KeptAnswer:
        body = seal(answer.body, secret=self._wiring.settings.key_pepper, label=self._request.label)
        return KeptAnswer(body_sha256, answer.status, answer.headers, body)

    def _unsealed(self, kept: KeptAnswer) -> Answer:
        secret = self._wiring.settings.key_pepper
        try:
            body = unseal(kept.sealed_body, secret=secret, label=self._request.label)
        except ValueError as error:
            message = f"the answer under this {HEADER} was kept by a server with another secret; use a new one"
            raise IdempotencyKeyReused(message, param=HEADER) from error
        return Answer(kept.status, kept.headers, body)


@contextmanager
def unless_a_twin_won(once: Once[Any] | None) -> Iterator[None]:
    """Where the state is against a request, look first whether the same request, sent twice at once, has changed it.

    Raises:
        AlreadyAnswered, IdempotencyKeyReused: it has; see ``Once.repeat``.
    """
    try:
        yield
    except StateConflict:
        if once is not None:
            once.look_again()
        raise
