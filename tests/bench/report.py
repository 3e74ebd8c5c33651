"""The figures of one run as tables."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.bench.embeddings import EmbeddingFigures
from tests.bench.latency import LatencyFigures
from tests.bench.machine import Machine
from tests.bench.orchestration import EchoFigures
from tests.bench.samples import Sample


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the bench."""

    taken_at: str
    quick: bool
    machine: Machine
    load_before: float
    load_after: float
    embeddings: EmbeddingFigures
    echo: EchoFigures
    latency: LatencyFigures


def print_report(report: Report, console: Console) -> None:
    """Print everything that was measured."""
    console.print(f"\n{report.machine}", highlight=False)
    loads = f"{report.load_before:.1f} before, {report.load_after:.1f} after"
    console.print(f"load average over a minute: {loads}; above the bench's own, others were at work", highlight=False)
    if report.quick:
        console.print("[bold]The quick form shows that everything runs; its figures mean nothing.[/bold]")
    console.print(_embeddings_table(report.embeddings))
    console.print(_echo_table(report.echo))
    console.print(_latency_table(report.latency))


def _embeddings_table(figures: EmbeddingFigures) -> Table:
    n_texts = figures.n_texts
    mean_length = figures.n_characters / n_texts
    title = f"{n_texts:,} short texts (mean {mean_length:.0f} characters), {len(figures.job.values)} turns"
    table = Table("", "texts/s", "median s", "spread s", title=title, title_justify="left")
    table.add_row("job, file in to file out", f"{n_texts / figures.job.p50:,.0f}", *_both(figures.job))
    for stage, sample in figures.stages.items():
        table.add_row(f"  of this, {stage}", "", *_both(sample))
    bare = f"bare SentenceTransformer.encode, {figures.device}"
    table.add_row(bare, f"{n_texts / figures.bare.p50:,.0f}", *_both(figures.bare))
    ratios = figures.ratios
    table.add_row(
        "[bold]job over bare, turn by turn[/bold]", f"[bold]{ratios.p50:.2f}x[/bold]", "", f"{ratios.spread} x"
    )
    table.add_row("smallest cosine between both", f"{figures.smallest_cosine:.8f}", "", "")
    return table


def _echo_table(figures: EchoFigures) -> Table:
    title = f"{figures.n_items:,} echo items, {len(figures.run.values)} turns"
    table = Table("", "items/s", "median s", "spread s", title=title, title_justify="left")
    table.add_row("POST to terminal", f"{figures.n_items / figures.run.p50:,.0f}", *_both(figures.run))
    table.add_row("  of this, until the first chunk started", "", *_both(figures.validated))
    table.add_row("upload of the file, before", "", *_both(figures.upload))
    return table


def _latency_table(figures: LatencyFigures) -> Table:
    table = Table("", "n", "p50 ms", "p99 ms", title="One answer", title_justify="left")
    rows = {
        f"submit, {figures.submits_per_s:g} per second": figures.submit,
        "job of one item, POST to terminal": figures.single_job,
        "synchronous embedding, idle": figures.sync,
    }
    for name, sample in rows.items():
        milliseconds = (f"{seconds * 1000:.0f}" for seconds in (sample.p50, sample.p99))
        table.add_row(name, str(len(sample.values)), *milliseconds)
    return table


def _both(sample: Sample) -> tuple[str, str]:
    return f"{sample.p50:.2f}", sample.spread
