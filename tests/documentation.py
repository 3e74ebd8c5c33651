"""README and docs as tests see them: their code blocks, tables and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "docker" / "local" / "README.md"]
RUN = ("sh", "python")
SHOWN = ("mermaid", "json", "text", "yaml")
"""Blocks that are looked at by people only; a block of another kind, or of none, is refused by a test."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; blocks of a page run in their order, in one folder."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page, in its order."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(page, content.count("\n", 0, found.start()) + 1, found.group(1), found.group(2))
        for found in _BLOCK.finditer(content)
    ]


def links_of(page: Path) -> list[str]:
    """Targets of links to files; those to other places are left out."""
    targets = _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return [target for target in targets if "://" not in target]


def inline_code_of(page: Path) -> list[str]:
    """What stands in backticks outside the blocks."""
    return _CODE.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))


def table_rows(page: Path, header: str) -> Iterator[list[str]]:
    """Cells of the table whose first column is headed so."""
    rows = page.read_text(encoding="utf-8").partition(f"| {header} |")[2].splitlines()[2:]
    for row in rows:
        if not row.startswith("|"):
            return
        yield [cell.strip() for cell in row.strip("|").split("|")]


def codes_in(cell: str) -> list[str]:
    return _CODE.findall(cell)
