"""A file as the core knows it: an upload is one object, a job's output is the parts of the job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

BATCH_PURPOSE = "batch"
OUTPUT_PURPOSE = "batch_output"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One row of ``files`` that is neither deleted nor expired."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    size_bytes: int
    sha256: str | None
    n_lines: int | None
    """Up to the last that is not blank; None where nobody counted."""
    object_key: str | None
    """Where an upload is stored; None for the output of a job."""
    job_id: str | None
    created_at: datetime
    expires_at: datetime | None
