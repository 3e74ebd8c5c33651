"""Encoders of real shapes with random weights: for how fast they run, weights are weights."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoTokenizer, BertConfig, BertModel

from config.models import ModelSpec, ModelVersion

MAX_TOKENS = 256
ALIAS = "random"


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how much there is to compute."""

    name: str
    n_layers: int
    width: int
    n_heads: int

    @property
    def inner(self) -> int:
        return 4 * self.width

    @property
    def n_layer_parameters(self) -> int:
        """Weights that every token is multiplied by."""
        return self.n_layers * (4 * self.width * self.width + 2 * self.width * self.inner)

    def flops(self, n_tokens: int, n_tokens_squared: int) -> float:
        """Operations of a forward pass over rows without padding.

        Args:
            n_tokens: of all rows.
            n_tokens_squared: the sum of the squares of the rows' lengths, for the attention.
        """
        return 2.0 * self.n_layer_parameters * n_tokens + 4.0 * self.n_layers * self.width * n_tokens_squared


TINY = Shape("tiny", n_layers=2, width=48, n_heads=4)
SMALL = Shape("22M", n_layers=6, width=384, n_heads=12)
BASE = Shape("110M", n_layers=12, width=768, n_heads=12)


def write_random_encoder(shape: Shape, folder: Path, *, tokenizer: Path) -> ModelSpec:
    """Save an encoder in the format of sentence-transformers; what Nightshift needs to know to serve it.

    Args:
        tokenizer: the folder of a model whose tokeniser is borrowed.
    """
    words = AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
    config = BertConfig(
        vocab_size=len(words),
        num_hidden_layers=shape.n_layers,
        hidden_size=shape.width,
        num_attention_heads=shape.n_heads,
        intermediate_size=shape.inner,
    )
    torch.manual_seed(0)
    weights = folder / "weights"
    BertModel(config).eval().save_pretrained(weights)
    words.save_pretrained(weights)
    encoder = Transformer(str(weights), max_seq_length=MAX_TOKENS)
    parts = [encoder, Pooling(shape.width, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    version = ModelVersion(name="v1", package=None, path=str(folder / "model"), precision="fp32")
    return ModelSpec(
        alias=ALIAS,
        engine="sentence_transformers",
        endpoints=("/v1/embeddings",),
        pools=("cpu", "gpu"),
        max_input_tokens=MAX_TOKENS,
        dimensions=shape.width,
        versions=MappingProxyType({"v1": version}),
        stable_version="v1",
        list_price_per_million_tokens=Decimal(0),
        batch_discount=Decimal(0),
        currency="USD",
        assumed_tokens_per_second=MappingProxyType({"cpu": 6000.0, "gpu": 400_000.0}),
        owned_by="nobody",
        created=1,
    )
