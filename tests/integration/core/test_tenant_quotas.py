"""What was set for a tenant holds over the installation's defaults."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest
from core_machine import CoreMachine
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from app.db.repositories.tenants import Tenants
from app.db.tables import tenants
from app.domain.tenants import QUOTA_FIELDS
from app.services.tenant_quotas import default_quota, tenant_quota, tenant_quotas


def _new_tenant(core: CoreMachine) -> str:
    with core.wiring.database.begin() as connection:
        return Tenants(connection).id_of(f"test-{uuid4().hex}")


def test_a_tenant_for_whom_nothing_was_set_has_the_installations_defaults(core: CoreMachine) -> None:
    tenant_id, settings = _new_tenant(core), core.wiring.settings
    with core.wiring.database.begin() as connection:
        quota = tenant_quota(connection, settings, tenant_id=tenant_id)
        assert tenant_quotas(connection, settings).of(tenant_id) == quota == default_quota(settings)
    assert quota.requests_per_minute == settings.default_tenant_requests_per_minute
    assert quota.budget is None


def test_what_was_set_holds_and_the_rest_stays_with_the_defaults(core: CoreMachine) -> None:
    tenant_id, other_id, settings = _new_tenant(core), _new_tenant(core), core.wiring.settings
    core.sql("UPDATE tenants SET weight = 2.5, max_chunks = 3, budget = 12.5 WHERE id = :id", id=tenant_id)
    with core.wiring.database.begin() as connection:
        quotas = tenant_quotas(connection, settings)
        assert tenant_quota(connection, settings, tenant_id=tenant_id) == quotas.of(tenant_id)
    assert (quotas.of(tenant_id).weight, quotas.of(tenant_id).max_chunks) == (2.5, 3)
    assert quotas.of(tenant_id).budget == Decimal("12.5")
    assert quotas.of(tenant_id).max_running_jobs == settings.default_tenant_max_running_jobs
    assert quotas.of(other_id) == quotas.defaults


@pytest.mark.parametrize("column", QUOTA_FIELDS)
def test_the_table_takes_no_quota_of_nothing(core: CoreMachine, column: str) -> None:
    tenant_id = _new_tenant(core)
    change = update(tenants).where(tenants.c.id == tenant_id).values({column: 0})
    with (
        pytest.raises(IntegrityError, match=f"ck_tenants_{column}_above_zero"),
        core.wiring.database.begin() as connection,
    ):
        connection.execute(change)
