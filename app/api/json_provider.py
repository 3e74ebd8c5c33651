"""JSON by orjson, in and out."""

from __future__ import annotations

from typing import Any

import orjson
from flask.json.provider import JSONProvider

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


class OrjsonProvider(JSONProvider):
    """Flask's JSON by orjson."""

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """Serialise to text."""
        return orjson.dumps(obj, option=_OPTIONS).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """Parse strictly: no NaN, no lone surrogates, bounded depth."""
        return orjson.loads(s)
