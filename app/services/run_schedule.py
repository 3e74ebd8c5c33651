"""Start a run of a schedule by hand."""

from __future__ import annotations

from app.db.repositories.schedules import Schedules
from app.domain.schedules import RunReport
from app.services.list_schedule_runs import report_runs
from app.services.start_run import start_run
from app.wiring import Wiring


def run_schedule(*, wiring: Wiring, tenant_id: str, schedule_id: str) -> RunReport:
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
    start_run(wiring=wiring, run=run)
    with wiring.database.begin() as connection:
        return report_runs(connection, [Schedules(connection).get_run(tenant_id, run.id)])[0]
