"""Tell how far running jobs have come, to whom it may concern. Any number of processes may call this at once."""

from __future__ import annotations

from app.db.repositories.jobs import Jobs
from app.db.repositories.outcomes import Outcomes
from app.db.repositories.webhook_outbox import WebhookOutbox
from app.db.repositories.webhook_progress import WebhookProgress
from app.wiring import Wiring

JOBS_AT_ONCE = 100


def tell_progress(*, wiring: Wiring) -> int:
    """Write one event for each running job that somebody wants to hear of and that has come further since the last.

    Not sooner than ``webhook_progress_s`` behind the last. A receiver that was away hears of the last and not of all
    that led to it.

    Returns:
        How many jobs were told of.
    """
    with wiring.database.begin() as connection:
        progress = WebhookProgress(connection)
        if not progress.is_mine():
            return 0
        job_ids = progress.untold(every_s=wiring.settings.webhook_progress_s, limit=JOBS_AT_ONCE)
        tallies = Outcomes(connection).tallies(job_ids) if job_ids else {}
        jobs, outbox = Jobs(connection), WebhookOutbox(connection)
        for job_id in job_ids:
            outbox.tell_progress(jobs.get_any(job_id), tallies[job_id].counts)
        return len(job_ids)
