"""What a path may hold beyond Werkzeug's own kinds of parameters."""

from __future__ import annotations

from werkzeug.routing import BaseConverter

TEXT = "text"


class AnyText(BaseConverter):
    """All that is left of a path. Werkzeug's ``path`` takes neither a slash at its start nor a line end."""

    part_isolating = False
    regex = "(?s:.+)"
    weight = 200
