"""A chat model of a few kilobytes, made on disk: random weights, a byte vocabulary, a chat template.

What it says means nothing, but it is a real Llama behind a real tokeniser, and under greedy decoding it says the same
each time. ``chat_models_file`` writes a models file with it beside the default models: give that to a stack as
``NIGHTSHIFT_MODELS_FILE``, or to the core as ``load_models(path)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import config

ALIAS = "tiny-chat"
CONTEXT_TOKENS = 512
CHAT_ROUTES = ("/v1/chat/completions", "/v1/completions")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")


def make_tiny_chat_model(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    """Write the model's files into a folder; gives the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(template)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        initializer_range=0.6,  # wide enough that the answer depends on the question
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def model_entry(alias: str, engine: str, **fields: Any) -> dict[str, Any]:
    """One model of a models file; ``version`` is what its only version ``v1`` holds."""
    version = fields.pop("version")
    return {
        "alias": alias,
        "engine": engine,
        "endpoints": list(CHAT_ROUTES),
        "pools": ["cpu"],
        "max_input_tokens": CONTEXT_TOKENS,
        "stable_version": "v1",
        "versions": {"v1": version},
        "list_price_per_million_tokens": "1",
        "batch_discount": "0.5",
        "currency": "USD",
        "assumed_tokens_per_second": {"cpu": 2000},
        "owned_by": "tests",
        "created": 1763683200,
        **fields,
    }


def tiny_chat_entry(folder: Path, **fields: Any) -> dict[str, Any]:
    """The tiny model as an entry; ``endpoints=[...]`` and the like replace what ``model_entry`` says."""
    return model_entry(ALIAS, "transformers", version={"path": str(folder)}, **fields)


def write_models_file(path: Path, *entries: dict[str, Any]) -> Path:
    """The default models and these, in one file."""
    default = Path(config.__file__).with_name("models.yaml")
    models = yaml.safe_load(default.read_text("utf-8"))["models"]
    path.write_text(yaml.safe_dump({"models": [*models, *entries]}), "utf-8")
    return path


def chat_models_file(folder: Path, **fields: Any) -> Path:
    """Make the tiny model in ``folder`` and a models file that serves it as ``tiny-chat``."""
    entry = tiny_chat_entry(make_tiny_chat_model(folder / ALIAS), **fields)
    return write_models_file(folder / "models.yaml", entry)


def _tokenizer(template: str | None) -> Any:
    """Every byte is a token, so every text can be said."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_only = Tokenizer(models.BPE(vocab={token: place for place, token in enumerate(vocabulary)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer
