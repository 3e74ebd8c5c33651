"""How fast one core checks the lines of an input and cuts it into chunks."""

from __future__ import annotations

import io
import json
import time

from app.domain.chunking import ChunkLimits, ChunkPlanner, estimate_tokens
from app.domain.input_lines import InputCheck
from app.domain.jobs import Dialect
from app.domain.jsonl import read_lines
from tests.bench.plan import Plan
from tests.bench.rows import Row, at_least
from tests.bench.samples import Sample

MAX_LINE_BYTES = 1 << 22


def measure_validation(plan: Plan) -> list[Row]:
    """Lines of an embeddings batch a second, by the process's own time."""
    body = {"model": "m", "input": "a short text, as most of them are", "encoding_format": "base64"}
    lines = (
        {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body}
        for number in range(plan.n_echo_items)
    )
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    rates = [plan.n_echo_items / _seconds(content, plan.n_echo_items) for _ in range(plan.n_rounds + 2)]
    what = "lines checked and cut into chunks, on one core"
    return [Row(key="validate", what=what, unit="lines/s", sample=Sample(rates), target=at_least(100_000))]


def _seconds(content: bytes, n_lines: int) -> float:
    started_s = time.process_time()
    check = InputCheck(Dialect.OPENAI, "/v1/embeddings", max_items=n_lines, max_line_bytes=MAX_LINE_BYTES, model="m")
    planner = ChunkPlanner(ChunkLimits(tokens=100_000, items=5_000))
    for line in read_lines(io.BytesIO(content), max_line_bytes=MAX_LINE_BYTES):
        if check.check(line):
            planner.add(offset=line.offset, size_bytes=line.size_bytes, tokens=estimate_tokens(line.size_bytes, 256))
    if check.n_problems:
        raise RuntimeError(f"lines that are right were refused: {check.problems[0]}")
    return time.process_time() - started_s
