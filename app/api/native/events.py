"""``/v1/jobs/{id}/events`` and ``/v1/groups/{id}/events``: Server-Sent Events."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Response, request
from marshmallow import Schema, fields

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.api.event_lane import EventLane
from app.api.gunicorn_worker import ImpatientSocket
from app.api.job_ids import job_id_of
from app.domain.live_events import GREETING, HEARTBEAT, KINDS, LAST_EVENT_ID, Mark
from app.errors import InvalidRequest, NotFound, TooManyListeners
from app.services.follow_events import Feed, follow_group, follow_job, read_feeds
from app.wiring import Wiring

blueprint = ApiBlueprint("events", url_prefix="/v1", description="Jobs and groups as they go on")

EVENT_STREAM = "text/event-stream"
WITHOUT_LANE_PAUSE_S = 0.5
_MARK_DOC = {
    "name": LAST_EVENT_ID,
    "in": "header",
    "required": False,
    "description": "The `id` of the last event that was received: what came behind it is sent. `0` is the beginning. "
    "Without it the stream begins with how the job stands",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}(\\.done)?$"},
}
_ENDED_DOC = {"description": "The end was received before and nothing has happened since: do not come back"}

_EXAMPLE = {
    "event": "progress",
    "data": '{"id": "job_0199a0c27d4e0123456789abcdef0123", "counts": {"total": 1000, "pending": 500, "running": 100, '
    '"succeeded": 400, "failed": 0, "cancelled": 0, "expired": 0}, "progress": 0.4}',
}


class EventSchema(Schema):
    """One event of the stream."""

    event = fields.String(required=True, metadata={"enum": list(KINDS)})
    id = fields.String(metadata={"description": "To go on from; not of `progress`, nor of a group"})
    data = fields.String(
        required=True,
        metadata={
            "description": "JSON: `id` of the job or group; `state` (not of `progress`); `from`, `at` of a change; "
            "`chunk_id`, `attempt` of a chunk; `counts` of `progress` and `done`; `progress` from 0 to 1"
        },
    )


@blueprint.route("/jobs/<job_id>/events", methods=["GET"])
@blueprint.refuses(NotFound, InvalidRequest, TooManyListeners)
@blueprint.doc(parameters=[_MARK_DOC])
@blueprint.alt_response(204, **_ENDED_DOC)
@blueprint.response(200, EventSchema, content_type=EVENT_STREAM, example=_EXAMPLE)
def get_job_events(job_id: str) -> Response:
    """Listen to a job.

    Events `state`, `chunk` (one has ended), `progress` and `done`, behind which the stream ends. A comment comes every
    15 seconds where nothing else does. A listener that was cut off goes on with `Last-Event-ID` and misses nothing.
    """
    mark = request.headers.get(LAST_EVENT_ID)
    context.event_lane().check_room(context.tenant_id())
    feed = follow_job(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        job_id=job_id_of(job_id),
        mark=None if mark is None else Mark.read(mark),
    )
    return Response(status=204) if feed is None else _stream(feed)


@blueprint.route("/groups/<group_id>/events", methods=["GET"])
@blueprint.refuses(NotFound, TooManyListeners)
@blueprint.response(200, EventSchema, content_type=EVENT_STREAM, example=_EXAMPLE)
def get_group_events(group_id: str) -> Response:
    """Listen to a group.

    Events `state`, `progress` and `done`, behind which the stream ends. They tell how the group stands, so whoever was
    cut off listens again.
    """
    context.event_lane().check_room(context.tenant_id())
    return _stream(follow_group(wiring=context.wiring(), tenant_id=context.tenant_id(), group_id=group_id))


def _stream(feed: Feed) -> Response:
    is_chunked = request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
    connection = request.environ.get("gunicorn.socket")
    if isinstance(connection, ImpatientSocket):
        blocks = _handed_over(context.event_lane(), connection, feed, is_chunked=is_chunked)
    else:
        blocks = _in_this_thread(context.wiring(), feed)
    # Whatever stands before the API must not wait for more.
    return Response(blocks, mimetype=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})


def _handed_over(lane: EventLane, connection: ImpatientSocket, feed: Feed, *, is_chunked: bool) -> Iterator[bytes]:
    """Send the head of the answer, then leave the connection to the lane."""
    yield GREETING
    connection.hand_over()
    lane.adopt(connection, feed, is_chunked=is_chunked)


def _in_this_thread(wiring: Wiring, feed: Feed) -> Iterator[bytes]:
    """For any other server than ours."""
    yield GREETING
    while not feed.has_ended:
        (told,) = read_feeds(wiring=wiring, feeds=[feed])
        yield told or HEARTBEAT
        if not told:
            time.sleep(WITHOUT_LANE_PAUSE_S)
