"""One core's share of the work without any orchestration: ``python -m tests.bench.engine_process``.

Started by ``alone.py``, once for each CPU worker of the stack and pinned as that worker is. It loads the model, says
``ready``, and at each line on its standard input runs its share once and prints the seconds it took: ``engine`` runs
the very pipeline of a worker over texts in memory, ``roof`` runs nothing but the matrix multiplications of the same
micro-batches, by the faster of two kernels.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from app.domain.items import InputItem
from app.ports import RunRequest, RunStats
from config.models import load_models
from tests.bench.embeddings import ENDPOINT, MODEL
from workers.device_lock import DeviceLock
from workers.engines.registry import EngineRegistry
from workers.engines.token_batches import TokenBatch
from workers.pipeline import PipelineRunner, windows

N_TRIAL_BATCHES = 8
Matmul = Callable[[torch.Tensor, int, int], None]


def main() -> None:
    """Serve ``engine`` and ``roof`` until the input ends."""
    queue, models_file, lines_file = sys.argv[1:]
    engines = EngineRegistry(load_models(Path(models_file)), pool=queue.split(".")[0], device="cpu")
    items = list(_items(Path(lines_file)))
    turns = {"engine": _engine_turn(engines, items), "roof": _roof_turn(engines, items)}
    for turn in turns.values():
        turn()
    print("ready", flush=True)
    for line in sys.stdin:
        started_s = time.perf_counter()
        turns[line.strip()]()
        print(time.perf_counter() - started_s, flush=True)


def _items(path: Path) -> Iterator[InputItem]:
    with path.open(encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            parsed = json.loads(line)
            yield InputItem(index=index, custom_id=parsed["custom_id"], body=parsed["body"], attempt=1)


def _engine_turn(engines: EngineRegistry, items: Sequence[InputItem]) -> Callable[[], None]:
    runner = PipelineRunner(engines, DeviceLock())

    def run() -> None:
        request = RunRequest(
            endpoint=ENDPOINT,
            model=MODEL,
            version="fp32",
            items=items,
            should_stop=lambda: False,
            stats=RunStats(),
            on_oversize="truncate",
        )
        n_outcomes = sum(1 for _ in runner.run(request))
        if n_outcomes != len(items):
            raise RuntimeError(f"{len(items)} items went in, {n_outcomes} outcomes came out")

    return run


def _roof_turn(engines: EngineRegistry, items: Sequence[InputItem]) -> Callable[[], None]:
    engine = engines.engine(model=MODEL, version="fp32", endpoint=ENDPOINT)
    batches = [
        batch
        for some in windows(items, most_items=engine.window_items)
        for batch in engine.prepare(some, on_oversize="truncate").batches
    ]
    encoder = Encoder()
    trial = batches[:: max(1, len(batches) // N_TRIAL_BATCHES)]
    kernel = min((encoder.plain, encoder.packed), key=lambda kernel: _seconds_of(encoder, kernel, trial))

    def run() -> None:
        for batch in batches:
            encoder.multiply(batch, kernel)

    return run


def _seconds_of(encoder: Encoder, kernel: Matmul, batches: Sequence[TokenBatch]) -> float:
    took = []
    for _ in range(3):
        started_s = time.perf_counter()
        for batch in batches:
            encoder.multiply(batch, kernel)
        took.append(time.perf_counter() - started_s)
    return min(took)


class Encoder:
    """The weights of an encoder of MiniLM's shape, random: only how long it takes to multiply by them matters."""

    n_layers = 6
    width = 384
    n_heads = 12
    inner = 1536

    def __init__(self) -> None:
        shapes = [(self.width, self.width)] * 4 + [(self.width, self.inner), (self.inner, self.width)]
        self._weights = [[torch.randn(shape) for shape in shapes] for _ in range(self.n_layers)]
        self._packed = [[weight.T.contiguous().to_mkldnn() for weight in layer] for layer in self._weights]

    def plain(self, rows: torch.Tensor, layer: int, number: int) -> None:
        """One product by torch's own kernel."""
        torch.mm(rows, self._weights[layer][number])

    def packed(self, rows: torch.Tensor, layer: int, number: int) -> None:
        """One product by oneDNN with its own layout of the weights."""
        torch.ops.mkldnn._linear_pointwise(rows, self._packed[layer][number], None, "none", [], "")

    @torch.inference_mode()
    def multiply(self, batch: TokenBatch, kernel: Matmul) -> None:
        """Every product of one pass: four projections, two of the feed-forward part, two of the attention."""
        n_rows, n_tokens = len(batch.rows), len(batch.token_ids[0])
        narrow, wide = torch.ones(n_rows * n_tokens, self.width), torch.ones(n_rows * n_tokens, self.inner)
        heads = torch.ones(n_rows * self.n_heads, n_tokens, self.width // self.n_heads)
        for layer in range(self.n_layers):
            for number in range(5):
                kernel(narrow, layer, number)
            kernel(wide, layer, 5)
            torch.bmm(torch.bmm(heads, heads.transpose(1, 2)), heads)


if __name__ == "__main__":
    main()
