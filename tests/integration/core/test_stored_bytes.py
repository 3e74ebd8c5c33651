"""The bytes of a tenant are counted as they come and go; a recount from the rows finds the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from core_machine import CoreMachine
from seeded_work import SeededItem, good

from app.db.repositories.hygiene import Hygiene
from app.db.repositories.stored_bytes import StoredBytes
from app.db.repositories.tenants import Tenants
from app.domain.jobs import Dialect
from app.services.change_tenant import change_tenant
from app.services.delete_file import delete_file
from app.services.recount_storage import recount_storage
from app.services.sweep_expired import sweep_expired
from app.services.tenant_quotas import default_quota

LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}\n'


@pytest.fixture
def own(core: CoreMachine) -> Iterator[CoreMachine]:
    """The machine with a tenant that has stored nothing; at the end every sum is what its rows say."""
    before, name = core.tenant_id, f"test-{uuid4().hex}"
    with core.wiring.database.begin() as connection:
        core.tenant_id = Tenants(connection).id_of(name)
    yield core
    core.tenant_id = before
    assert recount_storage(wiring=core.wiring) == 0


def _items(number: int) -> list[SeededItem]:
    return [good(f"item-{place}") for place in range(number)]


def _stored(core: CoreMachine) -> int:
    with core.wiring.database.begin() as connection:
        return StoredBytes(connection).of([core.tenant_id])[core.tenant_id]


def _part_bytes(core: CoreMachine, job_id: str) -> int:
    (row,) = core.sql("SELECT coalesce(sum(size_bytes), 0) AS n FROM result_parts WHERE job_id = :id", id=job_id)
    return int(row["n"])


def _expire(core: CoreMachine, job_id: str) -> None:
    core.sql("UPDATE jobs SET results_expire_at = now() - interval '2 hours' WHERE id = :id", id=job_id)


def test_an_inline_input_and_its_results_count_until_they_are_swept(own: CoreMachine) -> None:
    job_id = own.submit(_items(10))
    (row,) = own.sql("SELECT input_size_bytes FROM jobs WHERE id = :id", id=job_id)
    assert _stored(own) == row["input_size_bytes"] > 0
    own.drive(job_id)
    assert _part_bytes(own, job_id) > 0
    assert _stored(own) == row["input_size_bytes"] + _part_bytes(own, job_id)
    _expire(own, job_id)
    sweep_expired(wiring=own.wiring)
    assert _stored(own) == 0


def test_an_upload_counts_once_however_many_jobs_read_it(own: CoreMachine) -> None:
    first = own.submit_content(LINE)
    own.drive(first)
    assert _stored(own) == len(LINE) + _part_bytes(own, first)
    file_id = own.job(first).input_file_id
    assert file_id is not None
    delete_file(wiring=own.wiring, tenant_id=own.tenant_id, file_id=file_id)
    assert _stored(own) == _part_bytes(own, first)
    own.sql("UPDATE files SET deleted_at = now() - interval '2 hours' WHERE id = :id", id=file_id)
    sweep_expired(wiring=own.wiring)
    assert _stored(own) == _part_bytes(own, first)


def test_an_output_file_is_its_jobs_parts_and_counts_no_second_time(own: CoreMachine) -> None:
    job = own.drive(own.submit_content(LINE, dialect=Dialect.OPENAI))
    assert job.output_file_id is not None
    stored = _stored(own)
    delete_file(wiring=own.wiring, tenant_id=own.tenant_id, file_id=job.output_file_id)
    assert _stored(own) == stored


def test_an_expired_upload_counts_until_its_object_goes_and_is_taken_off_once(own: CoreMachine) -> None:
    job = own.drive(own.submit_content(LINE))
    own.sql("UPDATE files SET expires_at = now() - interval '2 hours' WHERE id = :id", id=job.input_file_id)
    assert _stored(own) == len(LINE) + _part_bytes(own, job.id)
    for _ in range(2):
        sweep_expired(wiring=own.wiring)
        assert _stored(own) == _part_bytes(own, job.id)
    with own.wiring.database.begin() as connection:
        Hygiene(connection).mark_files_swept([str(job.input_file_id)])
    _expire(own, job.id)
    sweep_expired(wiring=own.wiring)
    with own.wiring.database.begin() as connection:
        Hygiene(connection).mark_job_swept(job.id)
    assert _stored(own) == 0


def test_a_sum_that_is_wrong_is_mended(own: CoreMachine) -> None:
    own.drive(own.submit(_items(3)))
    stored = _stored(own)
    own.sql("UPDATE tenant_storage_stripes SET stored_bytes = 5 WHERE tenant_id = :id", id=own.tenant_id)
    assert recount_storage(wiring=own.wiring) == 1
    assert _stored(own) == stored


def test_what_was_counted_before_there_were_stripes_counts_on(own: CoreMachine) -> None:
    own.drive(own.submit(_items(3)))
    stored = _stored(own)
    own.sql("INSERT INTO tenant_storage (tenant_id, stored_bytes) VALUES (:id, 100)", id=own.tenant_id)
    assert _stored(own) == stored + 100
    assert recount_storage(wiring=own.wiring) == 1
    assert _stored(own) == stored


@contextmanager
def _retention(core: CoreMachine, seconds: int) -> Iterator[str]:
    (row,) = core.sql("SELECT name FROM tenants WHERE id = :id", id=core.tenant_id)
    change_tenant(wiring=core.wiring, name=row["name"], changes={"retention_s": seconds})
    yield row["name"]
    change_tenant(wiring=core.wiring, name=row["name"], changes={"retention_s": None})


def _life_s(core: CoreMachine, job_id: str) -> float:
    query = "SELECT extract(epoch FROM results_expire_at - finished_at) AS s FROM jobs WHERE id = :id"
    return float(core.sql(query, id=job_id)[0]["s"])


def test_results_live_no_longer_than_the_tenants_retention_whatever_was_asked_for(own: CoreMachine) -> None:
    with _retention(own, 7200):
        for asked in (None, 30 * 86_400):
            assert _life_s(own, own.drive(own.submit(_items(2), output_expires_after_s=asked)).id) == 7200
        assert _life_s(own, own.drive(own.submit(_items(2), output_expires_after_s=3600)).id) == 3600
        refused = own.submit_content(b"nonsense\n")
        own.prepare(refused)
        assert _life_s(own, refused) == 7200
        output = own.drive(own.submit_content(LINE)).output_file_id
        query = "SELECT extract(epoch FROM expires_at - created_at) AS s FROM files WHERE id = :id"
        assert own.sql(query, id=output)[0]["s"] == 7200


def test_a_shorter_retention_holds_for_what_is_stored_already_and_of_nobody_else(own: CoreMachine) -> None:
    job = own.drive(own.submit_content(LINE))
    with own.wiring.database.begin() as connection:
        other_id, own.tenant_id = own.tenant_id, Tenants(connection).id_of(f"test-{uuid4().hex}")
    untouched = own.drive(own.submit_content(LINE))
    own.tenant_id = other_id
    with _retention(own, 600):
        assert _life_s(own, job.id) == 600
        query = "SELECT extract(epoch FROM expires_at - created_at) AS s FROM files WHERE id = ANY(:ids)"
        files = own.sql(query, ids=[job.input_file_id, job.output_file_id])
        assert [row["s"] for row in files] == [600, 600]
        assert _life_s(own, untouched.id) == default_life_s(own)


def default_life_s(core: CoreMachine) -> float:
    settings = core.wiring.settings
    return default_quota(settings).life_s(settings.results_retention_s)
