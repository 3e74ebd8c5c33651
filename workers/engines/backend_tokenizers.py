"""A model's tokeniser, as threads may share it."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer


def whole_and_truncating(tokenizer: Any, max_tokens: int) -> tuple[Tokenizer, Tokenizer]:
    """Two copies of a model's tokeniser, one whole, one truncating; shared, never changed.

    Args:
        tokenizer: a fast one of transformers.
    """
    serialised = tokenizer.backend_tokenizer.to_str()
    whole, truncating = Tokenizer.from_str(serialised), Tokenizer.from_str(serialised)
    whole.no_padding()
    whole.no_truncation()
    truncating.no_padding()
    truncating.enable_truncation(max_length=max_tokens)
    return whole, truncating
