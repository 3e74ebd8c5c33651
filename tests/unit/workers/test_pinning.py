from __future__ import annotations

import subprocess
import sys

from workers.pinning import device_of, pinned_environment


def test_a_gpu_worker_sees_its_gpu_only() -> None:
    environment = pinned_environment("gpu.3", ["gpu.0", "gpu.3"], n_cores=16)

    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert device_of("gpu.3") == "cuda:0"
    assert environment["OMP_NUM_THREADS"] == "8"


def test_a_name_that_is_unique_among_hosts_may_stand_for_any_gpu_of_this_one() -> None:
    environment = pinned_environment("gpu.12", ["gpu.12"], n_cores=4, device=0)

    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert pinned_environment("cpu.12", ["cpu.12"], n_cores=4, device=0)["CUDA_VISIBLE_DEVICES"] == ""


def test_a_cpu_worker_sees_no_gpu_and_takes_its_share_of_the_cores() -> None:
    environment = pinned_environment("cpu.1", ["cpu.0", "cpu.1", "gpu.0"], n_cores=5)

    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["OMP_NUM_THREADS"] == environment["RAYON_NUM_THREADS"] == "2"
    assert device_of("cpu.1") == "cpu"


def test_there_is_always_one_thread() -> None:
    assert pinned_environment("cpu.0", ["cpu.0", "cpu.1"], n_cores=1)["OMP_NUM_THREADS"] == "1"


def test_the_parent_process_imports_no_torch() -> None:
    script = "import sys, workers.gpu, tasks.celery_app; print([m for m in ('torch', 'numpy') if m in sys.modules])"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert found.stdout.strip() == "[]"
