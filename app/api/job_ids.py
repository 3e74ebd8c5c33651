"""Ids of jobs as clients send them, in whichever dialect."""

from __future__ import annotations

from app.domain.ids import job_id_from
from app.errors import NotFound


def job_id_of(text: str) -> str:
    """The ``job_`` id behind what a client sent in a path.

    Raises:
        NotFound: no job can have such an id.
    """
    job_id = job_id_from(text)
    if job_id is None:
        raise NotFound(f"there is no job {text[:80]!r}", param="id")
    return job_id


def cursor_of(text: str | None, *, param: str = "after") -> str | None:
    """The ``job_`` id behind the cursor ``param`` of a list.

    Raises:
        NotFound: no job can have such an id.
    """
    if text is None:
        return None
    job_id = job_id_from(text)
    if job_id is None:
        raise NotFound(f"there is no job {text[:80]!r} to continue from", param=param)
    return job_id
