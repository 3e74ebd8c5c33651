"""List the runs of a schedule, each with its outcome mix and a warning where it is unlike the last ones."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from app.db.repositories.outcomes import EMPTY_TALLY, Outcomes
from app.db.repositories.schedules import Schedules
from app.domain.pages import Page, page_of
from app.domain.schedules import COMPARED_RUNS, RunReport, ScheduleRun, drift_warnings, total_of
from app.wiring import Wiring


def list_schedule_runs(
    *, wiring: Wiring, tenant_id: str, schedule_id: str, limit: int, after: str | None = None
) -> Page[RunReport]:
    """Runs newest first, behind the run ``after``.

    Raises:
        NotFound: no such schedule, or no run ``after``.
    """
    with wiring.database.begin() as connection:
        schedules = Schedules(connection)
        schedules.get(tenant_id, schedule_id)
        runs = schedules.runs(tenant_id, schedule_id, limit=limit + COMPARED_RUNS, after=after)
        return page_of(report_runs(connection, runs), limit)


def report_runs(connection: Connection, runs: Sequence[ScheduleRun]) -> list[RunReport]:
    """Add up the jobs of each run; ``runs`` are one schedule's, newest first."""
    tallies = Outcomes(connection).tallies([job_id for run in runs for job_id in run.job_ids])
    counts = [total_of([tallies.get(job_id, EMPTY_TALLY).counts for job_id in run.job_ids]) for run in runs]
    finished = [bool(run.job_ids) and found.total == found.finished for run, found in zip(runs, counts, strict=True)]
    reports = []
    for place, run in enumerate(runs):
        before = [counts[other] for other in range(place + 1, len(runs)) if finished[other]][:COMPARED_RUNS]
        warnings = drift_warnings(counts[place], before) if finished[place] else ()
        reports.append(RunReport(run=run, counts=counts[place], finished=finished[place], warnings=warnings))
    return reports
