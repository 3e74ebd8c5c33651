"""Every table, once. Migrations are checked against these modules by a test.

Times are ``timestamptz`` written by the database's ``now()``. Every row of a tenant carries ``tenant_id``.
"""

from __future__ import annotations

from app.db.tables.columns import metadata
from app.db.tables.files import files, upload_parts, uploads
from app.db.tables.fleet import drains, model_rates, pool_outlooks, work_totals, work_totals_until, workers
from app.db.tables.jobs import chunks, dead_letters, events, groups, jobs, result_parts
from app.db.tables.schedules import schedule_runs, schedules
from app.db.tables.tenants import api_keys, idempotency_keys, tenant_storage, tenant_storage_stripes, tenants
from app.db.tables.webhooks import webhook_deliveries, webhook_endpoints

__all__ = [
    "api_keys",
    "chunks",
    "dead_letters",
    "drains",
    "events",
    "files",
    "groups",
    "idempotency_keys",
    "jobs",
    "metadata",
    "model_rates",
    "pool_outlooks",
    "result_parts",
    "schedule_runs",
    "schedules",
    "tenant_storage",
    "tenant_storage_stripes",
    "tenants",
    "upload_parts",
    "uploads",
    "webhook_deliveries",
    "webhook_endpoints",
    "work_totals",
    "work_totals_until",
    "workers",
]
