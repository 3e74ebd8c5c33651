"""``make bench``: measure this machine, print a table, keep the figures and compare them with the last run's.

Everything is real and its own: a second stack in a temporary folder, which is stopped again. Figures that are
compared are measured in turns within this one run, because a shared machine changes from minute to minute. After each
part the checker looks at every job that was made: a fast answer that broke a promise is no figure.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from tests.bench.bed import Bed, distant_bed, own_bed, running_bed
from tests.bench.echo import measure_echo
from tests.bench.embeddings import measure_embeddings, warm_up
from tests.bench.fairness import measure_fairness
from tests.bench.history import History, load_history
from tests.bench.latency import measure_latency
from tests.bench.machine import describe_machine
from tests.bench.plan import FULL, QUICK, Plan
from tests.bench.plot import write_plot
from tests.bench.report import markdown, print_rows, write_between_marks
from tests.bench.rows import Row
from tests.bench.scaling import measure_scaling
from tests.bench.texts import mixed_texts, short_texts
from tests.bench.transfers import measure_transfers
from tests.bench.validation import measure_validation

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / ".nightshift" / "bench" / "figures.json"
PARTS = ("short", "mixed", "latency", "echo", "transfers", "scaling", "fairness", "validation")
LOCAL_PARTS = frozenset({"transfers", "scaling", "fairness"})
"""These look at the processes of a local stack."""
N_WARM_UP_TEXTS = 4_000


@click.command()
@click.option("--quick", is_flag=True, help="Small and in seconds: shows that it works, measures nothing.")
@click.option("--distant", is_flag=True, help="Measure the installation at NIGHTSHIFT_URL; bare encode runs here.")
@click.option("--home", type=click.Path(path_type=Path), help="Measure the local stack that runs in this folder.")
@click.option("--only", "parts", multiple=True, type=click.Choice(PARTS), help="Measure this part; repeatable.")
@click.option("--figures", type=click.Path(path_type=Path), default=FIGURES, help="Where figures are kept.")
@click.option("--write-docs", is_flag=True, help="Write the kept figures into the README and docs; measure nothing.")
def main(
    *, quick: bool, distant: bool, home: Path | None, parts: tuple[str, ...], figures: Path, write_docs: bool
) -> None:
    """Measure throughput and latency of the whole system on this machine."""
    console = Console(width=150)
    before = load_history(figures, machine=str(describe_machine()))
    if write_docs:
        write_pages(before)
        return
    wanted = [part for part in parts or PARTS if not (distant and part in LOCAL_PARTS)]
    console.print(f"{before.machine}; load average {os.getloadavg()[0]:.1f}", highlight=False)
    with (
        tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder,
        _bed(Path(folder), distant=distant, home=home, say=console.print) as bed,
    ):
        after = _measure(bed, QUICK if quick else FULL, wanted, before, console)
    after.save(figures)
    console.print(f"figures kept in {figures}")
    if quick:
        console.print("[bold]The quick form shows that everything runs; its figures mean nothing.[/bold]")


def _bed(folder: Path, *, distant: bool, home: Path | None, say: Callable[[str], None]) -> AbstractContextManager[Bed]:
    if distant:
        return distant_bed(folder, say=say)
    return own_bed(folder, say=say) if home is None else running_bed(home, folder, say=say)


def _measure(bed: Bed, plan: Plan, parts: list[str], before: History, console: Console) -> History:
    """Measure part after part; each is checked and printed before the next one begins."""
    texts, what = short_texts(plan.n_short_texts)
    bed.say("warming up ...")
    warm_up(bed, texts[:N_WARM_UP_TEXTS])
    measurements: dict[str, Callable[[], list[Row]]] = {
        "short": partial(
            measure_embeddings,
            bed,
            texts,
            kind="short",
            what=f"{len(texts):,} short texts ({what})",
            wanted_ratio=1.6,
            n_rounds=plan.n_rounds,
        ),
        "mixed": partial(
            measure_embeddings,
            bed,
            mixed_texts(plan.n_mixed_texts),
            kind="mixed",
            what=f"{plan.n_mixed_texts:,} texts of every length up to the model's limit",
            wanted_ratio=1.3,
            n_rounds=plan.n_rounds,
        ),
        "latency": partial(measure_latency, bed, plan, texts),
        "echo": partial(measure_echo, bed, plan),
        "transfers": partial(measure_transfers, bed, plan),
        "scaling": partial(measure_scaling, bed, plan, texts),
        "fairness": partial(measure_fairness, bed, plan),
        "validation": partial(measure_validation, plan),
    }
    after = before
    for part in parts:
        load = os.getloadavg()[0]
        rows = measurements[part]()
        bed.say(f"{part}: the checker looked at {bed.check()} jobs and found every promise kept")
        print_rows(rows, before, console)
        after = after.updated(rows, taken_at=datetime.now(UTC).isoformat(timespec="seconds"), load=load)
    return after


def write_pages(history: History) -> None:
    """Write what is kept into the README, and the plot beside docs/performance.md."""
    write_between_marks(ROOT / "README.md", markdown(history, but=("size.", "gpu.")))
    write_plot(history, ROOT / "docs" / "throughput.svg")


def _end_as_if_interrupted(_signal_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # A bench that is ended must still stop its stack.
    signal.signal(signal.SIGTERM, _end_as_if_interrupted)
    sys.exit(main())
