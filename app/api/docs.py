"""``/docs``: the OpenAPI document as a page. Everything it loads comes from this server."""

from __future__ import annotations

from flask import Response, send_from_directory
from swagger_ui_bundle import swagger_ui_path

from app.api.blueprints import Access, ApiBlueprint
from app.errors import NotFound

blueprint = ApiBlueprint("docs", access=Access.OPEN, description="This API as a page")

# Swagger UI writes style attributes; it needs nothing else that is inline.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nightshift API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, persistAuthorization: false
});
"""
_ASSETS = {"swagger-ui.css", "swagger-ui-bundle.js"}


@blueprint.route("/docs", methods=["GET"])
@blueprint.response(200, {"type": "string"}, content_type="text/html")
def docs() -> Response:
    """This API as a page."""
    return Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})


@blueprint.route("/docs/<asset>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, {"type": "string", "format": "binary"}, content_type="application/octet-stream")
def docs_asset(asset: str) -> Response:
    """A script or style of the page."""
    if asset == "start.js":
        return Response(_START, mimetype="text/javascript")
    if asset not in _ASSETS:
        raise NotFound(f"the page has no part {asset[:80]!r}")
    return send_from_directory(str(swagger_ui_path), asset, max_age=86_400)
