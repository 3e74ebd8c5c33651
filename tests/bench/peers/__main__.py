"""``make bench-peers``: the same file of texts through infinity, Ray Data and Nightshift, turn by turn.

Each peer lives in an environment of its own, made at the first run in the user's cache (some gigabytes); versions are
pinned. Both get the same cores: infinity a server with a client of several connections at once, Ray an actor for each
core.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console

from tests.bench.__main__ import FIGURES
from tests.bench.bed import Bed, own_bed, running_bed
from tests.bench.embeddings import model_folder, run_job, warm_up, write_input
from tests.bench.history import load_history
from tests.bench.machine import describe_machine
from tests.bench.peers.infinity import Infinity
from tests.bench.peers.ray_data import RayData
from tests.bench.report import print_rows
from tests.bench.rows import Row, at_least
from tests.bench.samples import Sample
from tests.bench.texts import short_texts

CACHE = Path.home() / ".cache" / "nightshift" / "bench-peers"
REQUIREMENTS = {
    "infinity": ("torch==2.13.0", "infinity-emb[server,torch]==0.0.78"),
    "ray": ("torch==2.13.0", "ray[data]==2.60.0", "sentence-transformers==6.2.0"),
}
TARGETS = {"infinity": at_least(2.0), "ray": at_least(2.5)}
N_TEXTS = 6_000
N_ROUNDS = 3


class Peer(AbstractContextManager[Any], Protocol):
    """What is measured beside; runs while it is entered."""

    def seconds(self, source: Path, target: Path) -> float:
        """Embed a file of batch lines; seconds from file to file."""
        ...


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Measure the local stack that runs in this folder.")
@click.option("--texts", "n_texts", default=N_TEXTS, show_default=True)
@click.option("--rounds", "n_rounds", default=N_ROUNDS, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, help="Where the peers are installed.")
@click.option("--figures", type=click.Path(path_type=Path), default=FIGURES, help="Where figures are kept.")
def main(*, home: Path | None, n_texts: int, n_rounds: int, cache: Path, figures: Path) -> None:
    """Measure against the peers."""
    console = Console(width=150)
    pythons = {name: install(name, REQUIREMENTS[name], cache=cache, say=console.print) for name in REQUIREMENTS}
    peers: dict[str, Peer] = {
        "infinity": Infinity(pythons["infinity"], model_folder()),
        "ray": RayData(pythons["ray"], model_folder(), n_actors=len(os.sched_getaffinity(0))),
    }
    before = load_history(figures, machine=str(describe_machine()))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        place = Path(folder)
        bed_of = own_bed(place, say=console.print) if home is None else running_bed(home, place, say=console.print)
        with bed_of as bed:
            rows = _measure(bed, peers, n_texts=n_texts, n_rounds=n_rounds)
            console.print(f"the checker looked at {bed.check()} jobs and found every promise kept")
    print_rows(rows, before, console)
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    before.updated(rows, taken_at=taken_at, load=load).save(figures)


def _measure(bed: Bed, peers: Mapping[str, Peer], *, n_texts: int, n_rounds: int) -> list[Row]:
    texts, what = short_texts(n_texts)
    warm_up(bed, texts)
    source = bed.folder / "texts.jsonl"
    write_input(source, texts)
    rows = []
    for name, peer in peers.items():
        theirs: list[float] = []
        ours: list[float] = []
        with peer:
            peer.seconds(source, bed.folder / name)  # loads the model
            for number in range(1, n_rounds + 1):
                theirs.append(peer.seconds(source, bed.folder / name))
                ours.append(run_job(bed.api, source, bed.folder / "ours.jsonl")[0])
                bed.say(f"{name}, turn {number} of {n_rounds}: {theirs[-1]:.1f} s, job {ours[-1]:.1f} s")
        rows.append(_row(name, f"{len(texts):,} short texts ({what})", theirs, ours))
    return rows


def install(name: str, requirements: Sequence[str], *, cache: Path, say: Callable[[str], None]) -> Path:
    """Make the environment of a peer unless it is there; its Python."""
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        say(f"installing {name} into {folder}; this takes some minutes and gigabytes ...")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        complete.touch()
    return python


def _row(name: str, what: str, theirs: list[float], ours: list[float]) -> Row:
    return Row(
        key=f"peer.{name}",
        what=f"{what}, file in to results on disk, over {' '.join(REQUIREMENTS[name][1:])}",
        unit="x",
        sample=Sample(theirs).over(Sample(ours)),
        target=TARGETS[name],
    )


if __name__ == "__main__":
    sys.exit(main())
