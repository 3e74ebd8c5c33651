"""What OpenAI's shapes want to know of every answer beside what it says."""

from __future__ import annotations

import time
import uuid
from typing import Any


def answer_stamp(prefix: str) -> dict[str, Any]:
    """An id of its own and the moment, by this machine's clock: it is shown, and decides nothing."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time())}
