"""A backlog that only stands there: jobs of one tenant, written as rows, behind one that holds its only place.

Ten thousand submits would take minutes and say nothing more. The rows are as real as those of a submitted job, except
that no object holds their input; they never run, because the one that holds the place waits for its next try, and are
gone afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from app.db.repositories.tenants import Tenants
from app.db.session import Database
from tests.bench.bed import Bed

TENANT = "bench-backlog"
_JOBS = """
    INSERT INTO jobs (id, tenant_id, dialect, state, endpoint, model, model_version, pool, priority, completion_window,
        input_key, input_size_bytes, n_items, remaining_tokens, created_at, deadline_at, queued_at, admitted_at)
    SELECT 'job_backlog_' || n, :tenant, 'native', 'queued', '/v1/echo', 'echo', 'v1', 'cpu', 'background', '7d',
        'none', 1, 10 * :n_chunks, 100 * :n_chunks, now(), now() + interval '7 days', now(),
        CASE WHEN n = 1 THEN now() END
    FROM generate_series(1, :n_jobs) AS n"""
_CHUNKS = """
    INSERT INTO chunks (tenant_id, job_id, ordinal, byte_start, byte_end, first_index, n_items, estimated_tokens,
        estimated_s, not_before)
    SELECT :tenant, 'job_backlog_' || n, place, 0, 1, 10 * place, 10, 100, 1,
        CASE WHEN n = 1 THEN now() + interval '7 days' END
    FROM generate_series(1, :n_jobs) AS n, generate_series(0, :n_chunks - 1) AS place"""
_END = "UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE id LIKE 'job\\_backlog\\_%'"
_FORGET = (
    "DELETE FROM chunks WHERE job_id LIKE 'job\\_backlog\\_%'",
    "DELETE FROM jobs WHERE id LIKE 'job\\_backlog\\_%'",
)


@contextmanager
def standing_backlog(bed: Bed, *, n_jobs: int, n_chunks: int) -> Iterator[None]:
    """So many queued jobs of so many chunks each, while the block runs."""
    database = Database.connect(bed.settings.database_url, statement_timeout_s=300)
    with bed.tenant(TENANT, max_running_jobs=1):
        values = {"tenant": _id_of(database, TENANT), "n_jobs": n_jobs, "n_chunks": n_chunks}
        try:
            for statement in (_JOBS, _CHUNKS):
                _execute(database, statement, **values)
            yield
        finally:
            _execute(database, _END)
            time.sleep(2 * bed.settings.dispatch_interval_s)  # until the dispatcher has seen it
            for statement in _FORGET:
                _execute(database, statement)
            database.close()


def _id_of(database: Database, tenant: str) -> str:
    with database.begin() as connection:
        return Tenants(connection).id_of(tenant)


def _execute(database: Database, statement: str, **values: object) -> None:
    with database.begin() as connection:
        connection.execute(text(statement), values)
