"""``make bench``: measure this machine, print tables, keep the figures as JSON.

Everything is real and its own: a second stack in a temporary folder, which is stopped again. Figures that are
compared are measured in turns within this one run, because a shared machine changes from minute to minute.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from tests.bench.addresses import known_address, own_stack
from tests.bench.clients import Api
from tests.bench.embeddings import measure_embeddings, warm_up
from tests.bench.latency import measure_latency
from tests.bench.machine import describe_machine
from tests.bench.orchestration import measure_echo
from tests.bench.plan import FULL, QUICK
from tests.bench.report import Report, print_report
from tests.bench.texts import short_texts

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_JSON = ROOT / ".nightshift" / "bench" / "last.json"


@click.command()
@click.option("--quick", is_flag=True, help="Small and in seconds: shows that it works, measures nothing.")
@click.option(
    "--running",
    is_flag=True,
    help="Measure the installation at NIGHTSHIFT_URL; bare encode still runs on this machine.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=DEFAULT_JSON, show_default=True)
def main(*, quick: bool, running: bool, json_path: Path) -> None:
    """Measure throughput and latency of the whole system on this machine."""
    plan = QUICK if quick else FULL
    console = Console(width=120)
    load_before = os.getloadavg()[0]
    texts = short_texts(plan.n_texts)
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        work = Path(folder)
        stack = nullcontext(known_address()) if running else own_stack(work / "stack", say=console.print)
        with stack as address, Api(address.url, address.api_key) as api:
            console.print("warming up ...")
            warm_up(api, texts, work)
            latency = measure_latency(api, plan, say=console.print)
            echo = measure_echo(api, plan, work, say=console.print)
            embeddings = measure_embeddings(api, texts, plan, work, say=console.print)
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    report = Report(taken_at, quick, describe_machine(), load_before, os.getloadavg()[0], embeddings, echo, latency)
    print_report(report, console)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    console.print(f"figures kept in {json_path}")


def _end_as_if_interrupted(_signal_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # A bench that is ended must still stop its stack.
    signal.signal(signal.SIGTERM, _end_as_if_interrupted)
    sys.exit(main())
