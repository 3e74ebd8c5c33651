"""Which device a worker has to itself, said through the environment before any library loads."""

from __future__ import annotations

from collections.abc import Sequence

from config.queues import pool_of

GPU_POOL = "gpu"


def device_of(queue: str) -> str:
    """The device as torch names it; a pinned GPU worker sees one GPU only."""
    return "cuda:0" if pool_of(queue) == GPU_POOL else "cpu"


def pinned_environment(queue: str, queues: Sequence[str], *, n_cores: int, device: int | None = None) -> dict[str, str]:
    """The variables that pin the worker of ``queue``.

    Args:
        queues: all device queues of this machine; cores are shared among those of the same pool.
        n_cores: cores this process may use.
        device: number of the GPU on this host; None: the number in the name of the queue.
    """
    pool, number = queue.split(".", 1)
    gpu = number if device is None else str(device)
    n_workers = max(1, sum(pool_of(name) == pool for name in queues))
    n_threads = str(max(1, n_cores // n_workers))
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": gpu if pool == GPU_POOL else "",
        "OMP_NUM_THREADS": n_threads,
        "MKL_NUM_THREADS": n_threads,
        "RAYON_NUM_THREADS": n_threads,
        # Set either way, the tokeniser does not warn about forks; it starts its threads only in the child.
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
