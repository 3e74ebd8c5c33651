"""Puts together what is counted of a job from its chunks; used by every service that returns a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from app.db.repositories.outcomes import EMPTY_TALLY, Outcomes, Tally
from app.domain.jobs import Cost, Job, JobDetails, Usage, Waiting
from app.domain.pricing import cost_of, no_cost
from app.domain.states import JobState
from config.models import ModelSpec


def job_details(connection: Connection, jobs: Sequence[Job], models: Mapping[str, ModelSpec]) -> list[JobDetails]:
    """Details of several jobs, in their order, in two queries."""
    tallies = Outcomes(connection).tallies([job.id for job in jobs]) if jobs else {}
    return [details_from(job, tallies.get(job.id, EMPTY_TALLY), models) for job in jobs]


def details_from(job: Job, tally: Tally, models: Mapping[str, ModelSpec]) -> JobDetails:
    """A job with its tally and what that costs."""
    return JobDetails(
        job=job,
        counts=tally.counts,
        usage=tally.usage,
        cost=_cost(job, tally.usage, models),
        errors_by_code=tally.errors_by_code,
        waiting=Waiting(reason="paused", detail="paused until it is resumed") if job.state is JobState.PAUSED else None,
    )


def _cost(job: Job, usage: Usage, models: Mapping[str, ModelSpec]) -> Cost:
    model = models.get(job.model or "")
    if model is None:
        return no_cost()
    return cost_of(
        usage,
        price_per_million=model.list_price_per_million_tokens,
        batch_discount=model.batch_discount,
        currency=model.currency,
    )
