"""The stack's passwords and keys: made once, kept in the private folder, never printed."""

from __future__ import annotations

import dataclasses
import json
import secrets
from dataclasses import dataclass

from nightshift_local.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One secret per field, URL-safe."""

    postgres: str
    rabbitmq: str
    rabbitmq_monitor: str
    erlang_cookie: str
    redis: str
    s3_access_key: str
    s3_secret_key: str
    key_pepper: str
    admin_key: str
    flower: str
    supervisor: str


def load_credentials(home: Home) -> Credentials:
    """Read the secrets of this stack, making those that are missing."""
    path = home.data / "credentials.json"
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = [field.name for field in dataclasses.fields(Credentials)]
    complete = {name: known.get(name) or secrets.token_hex(24) for name in names}
    if complete != known:
        home.write_private(path, json.dumps(complete, indent=2))
    return Credentials(**complete)
