"""``/v1/schedules``: runs by the clock."""

from __future__ import annotations

from typing import Any

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.domain.pages import Page
from app.domain.schedules import RunReport, Schedule, ScheduleRequest
from app.errors import NotFound, TooManyAtOnce
from app.schemas.schedules import (
    RunListQuerySchema,
    RunListSchema,
    RunSchema,
    ScheduleDeletedSchema,
    ScheduleListQuerySchema,
    ScheduleListSchema,
    SchedulePatchSchema,
    ScheduleRequestSchema,
    ScheduleSchema,
)
from app.services.answer_once import Once
from app.services.change_schedule import change_schedule
from app.services.create_schedule import create_schedule
from app.services.delete_schedule import delete_schedule
from app.services.list_schedule_runs import list_schedule_runs
from app.services.list_schedules import list_schedules
from app.services.run_schedule import run_schedule
from app.services.show_schedule import show_schedule

blueprint = ApiBlueprint("schedules", url_prefix="/v1/schedules", description="Jobs by the clock")


@blueprint.route("", methods=["POST"])
@blueprint.arguments(
    ScheduleRequestSchema,
    example={
        "name": "nightly",
        "cron": "30 2 * * *",
        "timezone": "Europe/Lisbon",
        "source": {"prefix": "loans/"},
        "job": {"endpoint": "/v1/embeddings", "model": "all-MiniLM-L6-v2"},
    },
)
@blueprint.refuses(TooManyAtOnce)
@blueprint.creates(201, ScheduleSchema)
def post_schedule(body: ScheduleRequest, *, once: Once[Schedule] | None) -> Schedule:
    """Make a schedule.

    Runs happen at the wall clock of its time zone: once in the night an hour is skipped, once in the night an hour
    comes twice. Ticks that are missed while the server is down are made up for by one run.
    """
    return create_schedule(wiring=context.wiring(), tenant_id=context.tenant_id(), request=body, once=once)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(ScheduleListQuerySchema, location="query")
@blueprint.refuses(NotFound)
@blueprint.response(200, ScheduleListSchema)
def get_schedules(query: dict[str, Any]) -> Page[Schedule]:
    """List schedules."""
    return list_schedules(wiring=context.wiring(), tenant_id=context.tenant_id(), **query)


@blueprint.route("/<schedule_id>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, ScheduleSchema)
def get_schedule(schedule_id: str) -> Schedule:
    """Show a schedule."""
    return show_schedule(wiring=context.wiring(), tenant_id=context.tenant_id(), schedule_id=schedule_id)


@blueprint.route("/<schedule_id>", methods=["PATCH"])
@blueprint.arguments(SchedulePatchSchema, example={"enabled": False})
@blueprint.refuses(NotFound)
@blueprint.response(200, ScheduleSchema)
def patch_schedule(body: dict[str, Any], schedule_id: str) -> Schedule:
    """Change a schedule's name or clock, or switch it off and on."""
    return change_schedule(
        wiring=context.wiring(), tenant_id=context.tenant_id(), schedule_id=schedule_id, changes=body
    )


@blueprint.route("/<schedule_id>", methods=["DELETE"])
@blueprint.refuses(NotFound)
@blueprint.response(200, ScheduleDeletedSchema)
def delete_schedule_(schedule_id: str) -> dict[str, str]:
    """Delete a schedule.

    Its jobs stay.
    """
    delete_schedule(wiring=context.wiring(), tenant_id=context.tenant_id(), schedule_id=schedule_id)
    return {"id": schedule_id}


@blueprint.route("/<schedule_id>/run", methods=["POST"])
@blueprint.refuses(NotFound)
@blueprint.creates(202, RunSchema)
def post_run(schedule_id: str, *, once: Once[RunReport] | None) -> RunReport:
    """Run a schedule now.

    Its clock goes on as before. A run without jobs and without a problem in the answer begins within seconds.
    """
    return run_schedule(wiring=context.wiring(), tenant_id=context.tenant_id(), schedule_id=schedule_id, once=once)


@blueprint.route("/<schedule_id>/runs", methods=["GET"])
@blueprint.arguments(RunListQuerySchema, location="query")
@blueprint.refuses(NotFound)
@blueprint.response(200, RunListSchema)
def get_runs(query: dict[str, Any], schedule_id: str) -> Page[RunReport]:
    """List a schedule's runs with their outcome mix, newest first."""
    tenant_id = context.tenant_id()
    return list_schedule_runs(wiring=context.wiring(), tenant_id=tenant_id, schedule_id=schedule_id, **query)
