"""Real texts that machines have: what Debian says of its packages, and the docstrings of the standard library."""

from __future__ import annotations

import shutil
import subprocess

from nightshift_local.stdlib_docstrings import collect_docstrings

MOST_LONG_CHARACTERS = 1600
"""Above the 256 tokens of the model, so that some texts are cut."""
LENGTH_STEP = 977
"""Without a divisor in common with it: every length comes once before one comes again."""


def short_texts(n_texts: int) -> tuple[list[str], str]:
    """Different short texts in a stable order, and what they are: package synopses where apt knows enough of them."""
    synopses = _synopses()
    if len(synopses) >= n_texts:
        step = len(synopses) // n_texts
        return synopses[::step][:n_texts], "Debian package synopses"
    paragraphs = (docstring.text.split("\n\n", 1)[0] for docstring in collect_docstrings())
    texts = list(dict.fromkeys(" ".join(paragraph.split()) for paragraph in paragraphs))
    return texts[:n_texts], "first paragraphs of Python docstrings"


def mixed_texts(n_texts: int) -> list[str]:
    """Texts of every length from a line to above the model's limit, evenly spread, out of whole docstrings."""
    prose = " ".join(" ".join(docstring.text.split()) for docstring in collect_docstrings())
    texts, start = [], 0
    for number in range(n_texts):
        length = 40 + (number * LENGTH_STEP) % MOST_LONG_CHARACTERS
        if start + length > len(prose):
            start = 0
        texts.append(prose[start : start + length])
        start += length
    return texts


def _synopses() -> list[str]:
    if not shutil.which("apt-cache"):
        return []
    known = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, errors="replace").stdout
    lines = (
        line.partition(": ")[2] for line in known.splitlines() if line.startswith(("Description:", "Description-en:"))
    )
    return sorted(set(filter(None, lines)))
