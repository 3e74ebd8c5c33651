"""Who may use a route. A blueprint says which kind of key it wants; nothing is open unless it says so."""

from __future__ import annotations

import hmac

import structlog
from flask import Flask, current_app, request

from app.api import context
from app.api.blueprints import Access, ApiBlueprint
from app.errors import NotAuthenticated, NotPermitted
from app.services.authenticate import authenticate


def install(app: Flask) -> None:
    """Check the key of every request before its view is called."""
    app.before_request(_check_key)


def access_of(app: Flask, endpoint: str) -> Access:
    """The kind of key that an endpoint of ``app`` asks for."""
    blueprint = app.blueprints.get(endpoint.rpartition(".")[0])
    return blueprint.access if isinstance(blueprint, ApiBlueprint) else Access.TENANT


def _check_key() -> None:
    if request.endpoint is None:
        return
    access = access_of(current_app, request.endpoint)
    if access is Access.TENANT:
        _check_tenant_key()
    elif access is Access.ADMIN:
        _check_admin_key()


def _check_tenant_key() -> None:
    own = context.context()
    principal = authenticate(wiring=own.wiring, seen=own.seen_keys, key=_sent_key())
    context.set_principal(principal)
    structlog.contextvars.bind_contextvars(tenant_id=principal.tenant_id, key_id=principal.key_id)


def _check_admin_key() -> None:
    expected = context.wiring().settings.admin_key
    if not expected:
        raise NotPermitted("the administrative routes are turned off: this server has no NIGHTSHIFT_ADMIN_KEY")
    if not hmac.compare_digest(_sent_key().encode("utf-8", "surrogatepass"), expected.encode()):
        raise NotAuthenticated("this is not the administrator's key")


def _sent_key() -> str:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else ""
    key = key or request.headers.get("X-Api-Key", "").strip()
    if not key:
        raise NotAuthenticated("no API key was sent; use 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'")
    return key
