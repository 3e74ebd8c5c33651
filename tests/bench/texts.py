"""Short real texts that every machine has: the first paragraph of each docstring of the standard library."""

from __future__ import annotations

from nightshift_local.stdlib_docstrings import collect_docstrings


def short_texts(n_texts: int) -> list[str]:
    """Up to ``n_texts`` different texts, in a stable order."""
    paragraphs = (docstring.text.split("\n\n", 1)[0] for docstring in collect_docstrings())
    texts = list(dict.fromkeys(" ".join(paragraph.split()) for paragraph in paragraphs))
    return texts[:n_texts]
