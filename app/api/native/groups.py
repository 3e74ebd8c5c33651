"""``/v1/groups``: jobs that share one input above a job's limits, shown, steered and read as one."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.api.native.results import NDJSON, RESULT_HEADERS, answer_with
from app.domain.groups import GroupDetails, GroupOrder
from app.domain.manifests import GroupManifest
from app.domain.pages import Page
from app.domain.result_pages import GroupCursor
from app.errors import (
    Gone,
    NotFound,
    NothingToRetry,
    QueueFull,
    RangeNotSatisfiable,
    StateConflict,
    StorageQuotaExceeded,
    StorageUnavailable,
)
from app.schemas.groups import GroupListQuerySchema, GroupListSchema, GroupSchema
from app.schemas.results import GroupManifestSchema, GroupResultsQuerySchema, ResultLineSchema
from app.schemas.retries import RetryRequestSchema
from app.services.answer_once import Once
from app.services.find_group_result import find_group_result
from app.services.list_groups import list_groups
from app.services.order_group import order_group
from app.services.read_group_results import read_group_results
from app.services.retry_group import retry_group
from app.services.show_group import show_group
from app.services.show_group_manifest import show_group_manifest

blueprint = ApiBlueprint("groups", url_prefix="/v1/groups", description="Jobs that share one large file")


@blueprint.route("", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.arguments(GroupListQuerySchema, location="query")
@blueprint.response(200, GroupListSchema)
def get_groups(query: dict[str, Any]) -> Page[GroupDetails]:
    """List groups, newest first."""
    return list_groups(wiring=context.wiring(), tenant_id=context.tenant_id(), **query)


@blueprint.route("/<group_id>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, GroupSchema)
def get_group(group_id: str) -> GroupDetails:
    """Show a group.

    Its counts are the sums over its jobs; items that no job has yet are pending.
    """
    return show_group(wiring=context.wiring(), tenant_id=context.tenant_id(), group_id=group_id)


@blueprint.route("/<group_id>/cancel", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, GroupSchema)
def post_group_cancel(group_id: str) -> GroupDetails:
    """Cancel a group.

    Its jobs are cancelled one after another; those not yet made are made cancelled, so that every item has its line.
    What has finished is kept. Cancelling twice is no error; cancelling a group that has ended is.
    """
    return _order(group_id, GroupOrder.CANCEL)


@blueprint.route("/<group_id>/retry", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict, NothingToRetry, Gone, QueueFull, StorageQuotaExceeded)
@blueprint.arguments(RetryRequestSchema, required=False, example={"include": ["failed", "expired"]})
@blueprint.creates(202, GroupSchema, location="/v1/groups/{id}")
def post_group_retry(body: dict[str, Any], group_id: str, *, once: Once[GroupDetails] | None) -> GroupDetails:
    """Retry a group.

    As a job is retried, for each of its jobs that has such items. The body may be left out.
    """
    return retry_group(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        group_id=group_id,
        include=body["include"],
        once=once,
    )


@blueprint.route("/<group_id>/pause", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, GroupSchema)
def post_group_pause(group_id: str) -> GroupDetails:
    """Pause a group.

    As a job is paused, for each of its jobs. Its completion window runs on.
    """
    return _order(group_id, GroupOrder.PAUSE)


@blueprint.route("/<group_id>/resume", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, GroupSchema)
def post_group_resume(group_id: str) -> GroupDetails:
    """Resume a paused group.

    Every one of its jobs that is paused goes on, whoever paused it.
    """
    return _order(group_id, GroupOrder.RESUME)


@blueprint.route("/<group_id>/results", methods=["GET"])
@blueprint.refuses(NotFound, RangeNotSatisfiable, StorageUnavailable)
@blueprint.arguments(GroupResultsQuerySchema, location="query")
@blueprint.response(200, ResultLineSchema, content_type=NDJSON, headers=RESULT_HEADERS)
def get_group_results(query: dict[str, Any], group_id: str) -> Response:
    """Read the results of a group as one stream.

    The results of its jobs, one behind the other; `index` counts over the whole file. While the group runs the stream
    ends with the first job that has not ended.
    """
    wiring = context.wiring()
    results = read_group_results(
        wiring=wiring,
        tenant_id=context.tenant_id(),
        group_id=group_id,
        statuses=query["status"],
        after=query["after"],
        limit=query["limit"],
    )
    return answer_with(results, wiring.storage, from_start=query["after"] == GroupCursor())


@blueprint.route("/<group_id>/results/<text:custom_id>", methods=["GET"])
@blueprint.refuses(NotFound, StorageUnavailable)
@blueprint.response(200, ResultLineSchema)
def get_group_result(group_id: str, custom_id: str) -> Response:
    """Read the result of one item of a group.

    As soon as it has one, whatever the jobs in front of its own do.
    """
    line = find_group_result(
        wiring=context.wiring(), tenant_id=context.tenant_id(), group_id=group_id, custom_id=custom_id
    )
    return Response(line, mimetype="application/json")


@blueprint.route("/<group_id>/manifest", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, GroupManifestSchema)
def get_group_manifest(group_id: str) -> GroupManifest:
    """Show what the results of a group consist of."""
    return show_group_manifest(wiring=context.wiring(), tenant_id=context.tenant_id(), group_id=group_id)


def _order(group_id: str, order: GroupOrder) -> GroupDetails:
    return order_group(wiring=context.wiring(), tenant_id=context.tenant_id(), group_id=group_id, order=order)
