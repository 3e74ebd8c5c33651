"""Puts together what is known of a job beside its row; used by every service that returns a job.

While it lives that is counted from its chunks; once it has ended it is what the finaliser wrote down, at the prices of
that moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from app.db.repositories.outcomes import EMPTY_TALLY, Outcomes, Tally
from app.domain.jobs import Cost, Counts, Job, JobDetails, Usage
from app.domain.outlook import waiting_by_state
from app.domain.pricing import cost_of, no_cost
from config.models import ModelSpec


def job_details(connection: Connection, jobs: Sequence[Job], models: Mapping[str, ModelSpec]) -> list[JobDetails]:
    """Details of several jobs, in their order; two queries, however many they are."""
    live = [job.id for job in jobs if job.final is None]
    tallies = Outcomes(connection).tallies(live) if live else {}
    return [
        _as_written(job, job.final) if job.final else details_from(job, tallies.get(job.id, EMPTY_TALLY), models)
        for job in jobs
    ]


def details_from(job: Job, tally: Tally, models: Mapping[str, ModelSpec]) -> JobDetails:
    """A job with its tally and what that costs."""
    return JobDetails(
        job=job,
        counts=tally.counts,
        usage=tally.usage,
        cost=cost_of_job(job.model, tally.usage, models),
        errors_by_code=tally.errors_by_code,
        waiting=waiting_by_state(job.state),
    )


def final_of(details: JobDetails) -> dict[str, Any]:
    """What the finaliser writes down; ``job_details`` reads it back."""
    return {
        "counts": asdict(details.counts),
        "usage": asdict(details.usage),
        "cost": asdict(details.cost),
        "errors_by_code": details.errors_by_code,
    }


def _as_written(job: Job, final: dict[str, Any]) -> JobDetails:
    return JobDetails(
        job=job,
        counts=Counts(**final["counts"]),
        usage=Usage(**final["usage"]),
        cost=Cost(**final["cost"]),
        errors_by_code=final["errors_by_code"],
    )


def cost_of_job(alias: str | None, usage: Usage, models: Mapping[str, ModelSpec]) -> Cost:
    """What this usage of a model costs now."""
    model = models.get(alias or "")
    if model is None:
        return no_cost()
    return cost_of(
        usage,
        price_per_million=model.list_price_per_million_tokens,
        batch_discount=model.batch_discount,
        currency=model.currency,
    )
