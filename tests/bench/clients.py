"""The client of the bench: as little as possible between the clock and the API."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import httpx

TERMINAL = frozenset({"succeeded", "partially_succeeded", "failed", "expired", "cancelled"})
LONGEST_JOB_S = 300.0


class Api:
    """The API over kept connections."""

    def __init__(self, url: str, api_key: str) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60, limits=limits, trust_env=False)
        self._job_ids: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def take_job_ids(self) -> list[str]:
        """The jobs made since this was last asked."""
        taken, self._job_ids = self._job_ids, []
        return taken

    def upload(self, path: Path) -> str:
        """Send a batch input file; its id."""
        with path.open("rb") as content:
            answer = self._http.post("/v1/files", data={"purpose": "batch"}, files={"file": (path.name, content)})
        return str(answer.raise_for_status().json()["id"])

    def submit(self, **job: Any) -> str:
        """Submit a native job; its id."""
        job_id = str(self._http.post("/v1/jobs", json=job).raise_for_status().json()["id"])
        self._job_ids.append(job_id)
        return job_id

    def wait(self, job_id: str, *, every_s: float) -> dict[str, Any]:
        """The job, once all its items succeeded, looked at again and again.

        Raises:
            RuntimeError: it ended otherwise, or did not end.
        """
        give_up_at = time.monotonic() + LONGEST_JOB_S
        while time.monotonic() < give_up_at:
            job = self.job(job_id)
            if job["state"] in TERMINAL:
                return _succeeded(job)
            time.sleep(every_s)
        raise RuntimeError(f"{job_id} did not end within {LONGEST_JOB_S:.0f} s: {self.job(job_id)}")

    def listen(self, job_id: str) -> dict[str, Any]:
        """The job, once all its items succeeded, told by its stream of events: no look costs the API a core's time.

        Raises:
            RuntimeError: it ended otherwise, or did not end.
        """
        give_up_at = time.monotonic() + LONGEST_JOB_S
        with self._http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            for line in answer.raise_for_status().iter_lines():
                if line == "event: done" or time.monotonic() > give_up_at:
                    break
        job = self.job(job_id)
        if job["state"] not in TERMINAL:
            raise RuntimeError(f"{job_id} did not end within {LONGEST_JOB_S:.0f} s: {job}")
        return _succeeded(job)

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        found: dict[str, Any] = self._http.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        return found

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job."""
        self._http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()

    def note_jobs(self, job_ids: Iterable[str]) -> None:
        """Count jobs that another client made among those of this one."""
        self._job_ids += job_ids

    def download(self, job_id: str, path: Path) -> int:
        """Write all result lines of a finished job to a file; its size in bytes."""
        with self._http.stream("GET", f"/v1/jobs/{job_id}/results") as answer, path.open("wb") as out:
            for piece in answer.raise_for_status().iter_bytes():
                out.write(piece)
            return out.tell()

    def embed(self, text: str, *, model: str) -> None:
        """Ask for one embedding and wait for the answer."""
        self._http.post("/v1/embeddings", json={"model": model, "input": text}).raise_for_status()


def _succeeded(job: dict[str, Any]) -> dict[str, Any]:
    if job["state"] != "succeeded":
        raise RuntimeError(f"{job['id']} ended as {job['state']}: {job['errors']}")
    return job
