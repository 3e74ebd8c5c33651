"""What torch raises when a device fails, by our names."""

from __future__ import annotations

import torch

from app.errors import OutOfDeviceMemory
from workers.engines.base import DeviceLost


def named(error: RuntimeError, *, what: str) -> Exception:
    """Tell a full device from a lost one; anything else is left as it is.

    Args:
        what: what ran, such as ``a batch of 512 tokens``.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return OutOfDeviceMemory(f"{what} did not fit on the device")
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in text:
        return DeviceLost(f"the device failed and only a new process can use it again: {text.splitlines()[0]}")
    return error
