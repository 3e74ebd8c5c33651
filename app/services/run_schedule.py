"""Start a run of a schedule by hand."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.repositories.schedules import Schedules
from app.domain.schedules import RunReport, ScheduleRun
from app.services.answer_once import Once
from app.services.list_schedule_runs import report_runs
from app.services.start_run import start_run
from app.wiring import Wiring


def run_schedule(*, wiring: Wiring, tenant_id: str, schedule_id: str, once: Once[RunReport] | None = None) -> RunReport:
    """Open a run beside the schedule's clock and make its jobs at once.

    Where that does not succeed now, because another run is just being started or a backing service is down, the
    next tick does it: the run is durable once this returns.

    Raises:
        NotFound: no such schedule.
    """
    with wiring.database.begin() as connection:
        schedules = Schedules(connection)
        run = schedules.add_run(schedules.get(tenant_id, schedule_id), tick_at=None)
        if run is None:
            raise AssertionError("a run without a tick never collides")
        _report(connection, run, once)
    start_run(wiring=wiring, run=run)
    with wiring.database.begin() as connection:
        return _report(connection, Schedules(connection).get_run(tenant_id, run.id), once)


def _report(connection: Connection, run: ScheduleRun, once: Once[RunReport] | None) -> RunReport:
    """What the client is told: at first that the run is open, in the end which jobs it made."""
    report = report_runs(connection, [run])[0]
    if once is not None:
        once.keep(connection, report)
    return report
