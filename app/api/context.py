"""What a view may reach: the wiring of the process and who sends the request."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import Flask, current_app, g

from app.api.event_lane import EventLane
from app.domain.api_keys import Principal
from app.ports import SyncLane
from app.services.authenticate import SeenKeys
from app.wiring import Wiring

_NAME = "nightshift"


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Hangs on the Flask application."""

    wiring: Wiring
    sync_lane: SyncLane
    event_lane: EventLane
    seen_keys: SeenKeys = field(default_factory=SeenKeys)


def install(app: Flask, context: ApiContext) -> None:
    """Make ``context`` the one of this application."""
    app.extensions[_NAME] = context


def context() -> ApiContext:
    """The context of the application that serves this request."""
    found: ApiContext = current_app.extensions[_NAME]
    return found


def wiring() -> Wiring:
    """The collaborators of this process."""
    return context().wiring


def event_lane() -> EventLane:
    """The lane of those who listen to events."""
    return context().event_lane


def set_principal(principal: Principal) -> None:
    """Remember who sends this request."""
    g.principal = principal


def tenant_id() -> str:
    """The tenant that sends this request; only on routes with ``Access.TENANT``."""
    principal: Principal = g.principal
    return principal.tenant_id


def tenant_id_or_none() -> str | None:
    """The tenant that sends this request; None on routes of the administrator."""
    principal: Principal | None = g.get("principal")
    return principal.tenant_id if principal is not None else None


def request_id() -> str:
    """The id of this request."""
    found: str = g.request_id
    return found
