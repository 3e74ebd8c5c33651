"""int8 linear layers for CPU: faster, and honestly less exact.

Weights are quantised per output channel once, activations per pass as they come, so a vector depends a
little on its batch mates. The second linear layer of each feed-forward block stays fp32: on 2,000 short
English texts that raised the smallest cosine to fp32 from 0.91 to 0.94 and the mean from 0.974 to 0.987.
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
