"""Where the API shows what a command names."""

from __future__ import annotations

from app.domain.ids import GROUP_PREFIX


def path_of(job_or_group_id: str) -> str:
    """The route of a job or of a group; both are shown, steered and read alike."""
    kind = "groups" if job_or_group_id.startswith(GROUP_PREFIX) else "jobs"
    return f"/v1/{kind}/{job_or_group_id}"
