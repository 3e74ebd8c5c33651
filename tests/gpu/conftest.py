"""Asked for by name, these tests need their device: without one they fail, so that a green run means something."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _cuda() -> None:
    if not torch.cuda.is_available():
        pytest.fail("there is no CUDA device on this machine", pytrace=False)
