"""Find the result of one item."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from app.db.repositories.jobs import Jobs
from app.db.repositories.parts import Parts
from app.domain.jobs import ResultPart
from app.domain.result_lines import to_native
from app.domain.result_pages import PartSlice
from app.errors import NotFound
from app.ports import ObjectStore
from app.services.read_results import check_not_expired, line_context
from app.storage.reading import read_lines
from app.wiring import Wiring


def find_result(*, wiring: Wiring, tenant_id: str, job_id: str, custom_id: str) -> bytes:
    """The native result line of an item. Reads the job's parts up to it: meant for people, not for bulk.

    Raises:
        NotFound: no such job, or no result of such an item yet.
    """
    with wiring.database.snapshot() as connection:
        job = Jobs(connection).get(tenant_id, job_id)
        stored = Parts(connection)
        check_not_expired(stored, job)
        parts = stored.list(tenant_id, job.id)
    found = search_parts(wiring.storage, parts, custom_id)
    if found is None:
        raise NotFound(f"job {job.id} has no result of an item {custom_id[:80]!r} yet", param="custom_id")
    line, outcome = found
    return to_native(line, outcome=outcome, context=line_context(job))


def search_parts(storage: ObjectStore, parts: Iterable[ResultPart], custom_id: str) -> tuple[bytes, str] | None:
    """The stored line of an item and its outcome; lines that cannot be it are not parsed."""
    needle = orjson.dumps(custom_id)
    for part in parts:
        for line in read_lines(storage, PartSlice(part, 0, part.n_items)):
            if needle in line and orjson.loads(line)["custom_id"] == custom_id:
                return line, part.outcome
    return None
