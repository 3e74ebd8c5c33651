"""Validate a job's input and plan it: ``validating`` becomes ``queued``, or ``failed``."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import func

from app.db.notify import notify
from app.db.repositories.chunks import Chunks
from app.db.repositories.jobs import Jobs
from app.domain.chunks import NewChunk
from app.domain.input_lines import LineProblem
from app.domain.jobs import Dialect
from app.domain.states import STOPPED_CHUNK, JobState
from app.errors import DependencyFailed, LeaseLost, ObjectMissing
from app.services.plan_input import InputPlan, plan_input
from app.services.plan_retry import RetryPreparation
from app.services.preparation import Preparation, Prepared
from app.services.tenant_quotas import tenant_quota
from app.wiring import Wiring

MOST_ATTEMPTS = 10


def prepare_job(*, wiring: Wiring, job_id: str) -> Prepared:
    """Check every line of a job's input and write its chunk rows, or those of a retry. Idempotent.

    Raises:
        StorageUnavailable, DatabaseUnavailable: nothing changed; the dispatcher sends the job again.
    """
    token = secrets.token_hex(8)
    with wiring.database.begin() as connection:
        claimed = Jobs(connection).claim_preparation(job_id, token=token, lease_s=wiring.settings.lease_s)
    if claimed is None:
        return Prepared.NOT_NEEDED
    job, attempts = claimed
    planner = RetryPreparation if job.attempt_runs else _InputPreparation
    preparation: Preparation = planner(wiring, job, token)
    if attempts > MOST_ATTEMPTS:
        return preparation.fail("internal", f"The input could not be read in {MOST_ATTEMPTS} attempts.")
    try:
        return preparation.run()
    except LeaseLost:
        return Prepared.LOST
    except ObjectMissing:
        return preparation.fail("invalid_value", "The input file is gone: it was deleted or has expired.")
    except DependencyFailed:
        # An outage says nothing about the input, and what was accepted outlives it.
        preparation.give_back(counted=False)
        raise
    except Exception:
        preparation.give_back(counted=True)
        raise


class _InputPreparation(Preparation):
    """One planner's work on the input of a new job."""

    def run(self) -> Prepared:
        """Check and cut it."""
        with self._wiring.storage.open(self._job.input_key) as reader:
            plan = plan_input(wiring=self._wiring, job=self._job, reader=reader, tick=self.renewal())
        problems = plan.check.problems or self._model_problems(plan.check.model)
        if problems:
            return self.fail(problems[0].code, problems[0].message, problems)
        return self._queue(plan)

    def fail(self, code: str, message: str, problems: Sequence[LineProblem] = ()) -> Prepared:
        """Fail the job; nothing of it ran. Its inline input is swept when its results would be."""
        settings = self._wiring.settings
        with self._wiring.database.begin() as connection:
            quota = tenant_quota(connection, settings, tenant_id=self._job.tenant_id)
        life_s = quota.life_s(self._job.output_expires_after_s or settings.results_retention_s)
        values = {
            "validation_errors": [problem.storable() for problem in problems],
            "failure": {"code": code, "message": message},
            "n_items": 0,
            "finished_at": func.now(),
            "results_expire_at": func.now() + timedelta(seconds=life_s),
        }
        return self._settle(JobState.FAILED, values, Prepared.REFUSED)

    def _model_problems(self, model: str | None) -> list[LineProblem]:
        """In the OpenAI dialect a model nobody serves refuses the file; natively it is left to the items."""
        if self._job.dialect is not Dialect.OPENAI or model is None:
            return []
        spec = self._wiring.models.get(model)
        if spec is None:
            message = f"There is no model {model[:80]!r}; GET /v1/models lists them."
        elif not spec.serves(self._job.endpoint):
            message = f"Model {model!r} serves {', '.join(spec.endpoints)}, not {self._job.endpoint}."
        else:
            return []
        return [LineProblem(1, "model_not_found", message, "body.model")]

    def _queue(self, plan: InputPlan) -> Prepared:
        values = {
            "model": plan.model.alias if plan.model else self._job.model,
            "model_version": plan.model.stable_version if plan.model else None,
            "pool": plan.pool,
            "n_items": plan.check.n_items,
            "queued_at": func.now(),
        }
        return self._settle(JobState.QUEUED, values, Prepared.PLANNED, chunks=plan.chunks)

    def _settle(
        self, wanted: JobState, values: dict[str, Any], outcome: Prepared, *, chunks: list[NewChunk] | None = None
    ) -> Prepared:
        """Write the outcome in one transaction, if this planner still has the right to."""
        with self._wiring.database.begin() as connection:
            jobs = Jobs(connection)
            job = jobs.lock_preparation(self._job.id, token=self._token)
            if job is None:
                return Prepared.LOST
            if chunks:
                Chunks(connection).insert(job.tenant_id, job.id, chunks)
            if chunks and job.state is not JobState.VALIDATING:  # cancelled or paused meanwhile
                jobs.update(job.id, prepare_until=None, **values)
            else:
                # The input of a cancelled job would have been refused: nothing is left to record.
                end = JobState.CANCELLED if job.state is JobState.CANCELLING else wanted
                jobs.change_state(job, end, prepare_until=None, **values)
            if job.stop_reason is not None:
                Chunks(connection).stop_waiting(job.id, STOPPED_CHUNK[job.stop_reason])
            notify(connection)
        return outcome
