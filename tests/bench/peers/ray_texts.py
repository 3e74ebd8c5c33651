"""Ray Data over the same texts: run by the Ray of its own environment, which knows nothing of Nightshift.

``python ray_texts.py MODEL N_ACTORS`` gets ready, says ``ready``, and for each line ``SOURCE TARGET`` on its standard
input embeds a file of batch lines into a folder of JSON lines and prints the seconds that took.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import ray
import torch
from sentence_transformers import SentenceTransformer

BATCH_SIZE = 256


class Embedder:
    """An actor that holds the model, with a share of the cores."""

    def __init__(self, model: str, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self.model = SentenceTransformer(model, device="cpu", local_files_only=True)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        texts = [body["input"] for body in batch["body"]]
        vectors = self.model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False)
        return {"custom_id": batch["custom_id"], "embedding": vectors}


def main() -> None:
    model, n_actors = sys.argv[1], int(sys.argv[2])
    ray.init(num_cpus=n_actors, log_to_driver=False, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    print("ready", flush=True)
    for line in sys.stdin:
        source, target = line.split()
        shutil.rmtree(target, ignore_errors=True)
        started_s = time.perf_counter()
        texts = ray.data.read_json(source, lines=True).repartition(4 * n_actors)
        options = {"fn_constructor_args": (model, 1), "concurrency": n_actors, "num_cpus": 1, "batch_size": BATCH_SIZE}
        texts.map_batches(Embedder, **options).write_json(target)
        print(time.perf_counter() - started_s, flush=True)


if __name__ == "__main__":
    main()
