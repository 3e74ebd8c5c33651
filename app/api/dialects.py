"""Which dialect a request is answered in, be there a route for it or not."""

from __future__ import annotations

from flask import request

_MESSAGES = "/v1/messages"


def speaks_anthropic() -> bool:
    """Whether the client expects the bodies and headers of the Anthropic dialect."""
    path = request.path
    return path == _MESSAGES or path.startswith(_MESSAGES + "/")
