"""``/v1/jobs/{id}/results`` and ``/manifest``: what came out of a job."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.api.job_ids import job_id_of
from app.api.streaming import stream, stream_content
from app.domain.manifests import Manifest
from app.domain.result_pages import Cursor
from app.errors import NotFound, RangeNotSatisfiable, StorageUnavailable
from app.ports import ObjectStore
from app.schemas.results import ManifestSchema, ResultLineSchema, ResultsQuerySchema
from app.services.find_result import find_result
from app.services.read_group_results import GroupResults
from app.services.read_results import Results, read_results
from app.services.show_manifest import show_manifest

blueprint = ApiBlueprint("results", url_prefix="/v1/jobs", description="What came out of jobs")

NDJSON = "application/x-ndjson"
RESULT_HEADERS = {
    "x-nightshift-complete": {
        "description": "`true` once the job has ended: no line will be added unless it is retried",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    "x-nightshift-next-cursor": {
        "description": "Send it as `after` to go on; absent at the end",
        "schema": {"type": "string"},
    },
}


@blueprint.route("/<job_id>/results", methods=["GET"])
@blueprint.refuses(NotFound, RangeNotSatisfiable, StorageUnavailable)
@blueprint.arguments(ResultsQuerySchema, location="query")
@blueprint.response(200, ResultLineSchema, content_type=NDJSON, headers=RESULT_HEADERS)
def get_results(query: dict[str, Any], job_id: str) -> Response:
    """Read the results of a job.

    One JSON object a line, while the job runs and afterwards. Lines come as chunks finish, `index` tells their place
    in the input. `Range` is honoured on a finished native job.
    """
    wiring = context.wiring()
    results = read_results(
        wiring=wiring,
        tenant_id=context.tenant_id(),
        job_id=job_id_of(job_id),
        statuses=query["status"],
        after=query["after"],
        limit=query["limit"],
    )
    return answer_with(results, wiring.storage, from_start=query["after"] == Cursor())


@blueprint.route("/<job_id>/results/<text:custom_id>", methods=["GET"])
@blueprint.refuses(NotFound, StorageUnavailable)
@blueprint.response(200, ResultLineSchema)
def get_result(job_id: str, custom_id: str) -> Response:
    """Read the result of one item.

    A `custom_id` with a slash may be sent as it is or quoted.
    """
    line = find_result(
        wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(job_id), custom_id=custom_id
    )
    return Response(line, mimetype="application/json")


@blueprint.route("/<job_id>/manifest", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, ManifestSchema)
def get_manifest(job_id: str) -> Manifest:
    """Show what the results of a job consist of."""
    return show_manifest(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(job_id))


def answer_with(results: Results | GroupResults, storage: ObjectStore, *, from_start: bool) -> Response:
    """Stream a page of result lines, with what its client needs to go on."""
    response = _stream(results, storage, from_start=from_start)
    response.headers["x-nightshift-complete"] = str(results.complete).lower()
    if results.next_cursor is not None:
        response.headers["x-nightshift-next-cursor"] = results.next_cursor.encode()
    return response


def _stream(results: Results | GroupResults, storage: ObjectStore, *, from_start: bool) -> Response:
    if not results.stored_as_shown:
        return stream(results.lines(storage), mimetype=NDJSON)
    is_all = results.complete and from_start and results.next_cursor is None
    return stream_content(storage, results.content, mimetype=NDJSON, may_be_cut=is_all)
