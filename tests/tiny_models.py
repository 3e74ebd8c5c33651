"""Every tiny model in one models file beside the default ones: what the tests' stack serves.

``python tests/tiny_models.py FOLDER`` makes them and prints the file, for a stack that is started by hand with it as
``NIGHTSHIFT_MODELS_FILE``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tiny_chat_model import ALIAS, make_tiny_chat_model, tiny_chat_entry, write_models_file
from tiny_score_models import (
    CLASSIFIER,
    LABELS,
    RERANKER,
    make_tiny_scorer,
    tiny_classifier_entry,
    tiny_reranker_entry,
)


def make_tiny_models(folder: Path) -> Path:
    """Make a chat model, a cross-encoder and a classifier; gives the models file."""
    return write_models_file(
        folder / "models.yaml",
        tiny_chat_entry(make_tiny_chat_model(folder / ALIAS)),
        tiny_reranker_entry(make_tiny_scorer(folder / RERANKER, labels=("relevant",))),
        tiny_classifier_entry(make_tiny_scorer(folder / CLASSIFIER, labels=LABELS)),
    )


if __name__ == "__main__":
    print(make_tiny_models(Path(sys.argv[1]).resolve()))
