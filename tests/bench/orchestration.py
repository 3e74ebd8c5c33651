"""What the machinery costs without a model: a big job of echo items."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench.clients import Api
from tests.bench.plan import Plan
from tests.bench.samples import Sample

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class EchoFigures:
    """What was measured.

    Attributes:
        upload: of the input file.
        run: from POST of the job to its terminal state.
        validated: of this, until the job had started.
    """

    n_items: int
    upload: Sample
    run: Sample
    validated: Sample


def measure_echo(api: Api, plan: Plan, folder: Path, *, say: Callable[[str], None]) -> EchoFigures:
    """Upload a file of echo items, then run it, several times."""
    source = folder / "echo.jsonl"
    with source.open("w", encoding="utf-8") as out:
        for number in range(plan.n_echo_items):
            body = {"model": "echo", "input": f"item {number}"}
            out.write(json.dumps({"custom_id": str(number), "body": body}) + "\n")
    upload_s, run_s, validated_s = [], [], []
    for number in range(1, plan.n_rounds + 1):
        started_s = time.perf_counter()
        file_id = api.upload(source)
        uploaded_s = time.perf_counter()
        job = api.wait(api.submit(endpoint="/v1/echo", model="echo", input_file_id=file_id), every_s=POLL_S)
        run_s.append(time.perf_counter() - uploaded_s)
        upload_s.append(uploaded_s - started_s)
        validated_s.append(_seconds_until_start(job))
        say(f"{plan.n_echo_items:,} echo items, turn {number} of {plan.n_rounds}: {run_s[-1]:.2f} s")
    return EchoFigures(plan.n_echo_items, Sample(upload_s), Sample(run_s), Sample(validated_s))


def _seconds_until_start(job: dict[str, Any]) -> float:
    created_at, started_at = (datetime.fromisoformat(job[name]) for name in ("created_at", "started_at"))
    return (started_at - created_at).total_seconds()
