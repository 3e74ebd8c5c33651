"""Writes ``config/lock/*.txt``: the exact versions of all that ``setup.cfg`` asks for, from this environment.

Run by ``make lock`` after ``pip install --upgrade`` of what should move. Distributions that nothing asks for
are left out, whatever is installed.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "config" / "lock"
# Every lock holds what the one before it holds, by reference.
_BASES = {"api": None, "worker": "api", "local": "worker", "dev": "local"}
# Oldest and newest Python that Nightshift is run on; a requirement of either is locked.
_PYTHONS = ("3.11.0", "3.14.0")


def main() -> None:
    """Write one lock per image and purpose."""
    wanted = _read_requirements(ROOT / "setup.cfg")
    pinned: dict[str, str] = {}
    for lock, base in _BASES.items():
        closure = _closure(wanted[lock])
        fresh = {name: marker for name, marker in closure.items() if name not in pinned}
        pinned.update(closure)
        _write(lock, base, fresh)
        print(f"config/lock/{lock}.txt: {len(fresh)} distributions")


def _read_requirements(path: Path) -> dict[str, list[Requirement]]:
    parser = configparser.ConfigParser()
    parser.read(path, encoding="utf-8")
    sections = {"api": parser["options"]["install_requires"], **parser["options.extras_require"]}
    return {name: [Requirement(line) for line in _lines(text)] for name, text in sections.items()}


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.strip() and not line.startswith("#"))


def _closure(requirements: Iterable[Requirement]) -> dict[str, str]:
    """Name of every distribution needed -> the marker under which it is, or ''."""
    found: dict[str, str] = {}
    pending = [(requirement, "") for requirement in requirements]
    while pending:
        requirement, inherited = pending.pop()
        name = canonicalize_name(requirement.name)
        marker = inherited or _python_marker(requirement)
        if found.get(name) in {"", marker}:
            continue
        found[name] = "" if name in found else marker
        children = map(Requirement, _requires(name))
        pending += [(child, marker) for child in children if _applies(child, requirement.extras)]
    return found


def _requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(_holds(marker, extra) for extra in ("", *extras))


def _holds(marker: Marker, extra: str) -> bool:
    return any(marker.evaluate(_environment(python, extra)) for python in _PYTHONS)


def _environment(python: str, extra: str) -> dict[str, str]:
    return {"python_full_version": python, "python_version": ".".join(python.split(".")[:2]), "extra": extra}


def _python_marker(requirement: Requirement) -> str:
    """The requirement's marker where it holds on some Pythons only."""
    marker = requirement.marker
    if marker is None or "extra" in str(marker):
        return ""
    return "" if all(marker.evaluate(_environment(python, "")) for python in _PYTHONS) else str(marker)


def _write(lock: str, base: str | None, closure: dict[str, str]) -> None:
    path = LOCKS / f"{lock}.txt"
    earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    lines = ["# Written by `make lock`; ranges stand in setup.cfg."]
    if base:
        lines.append(f"-r {base}.txt")
    lines += [_pin(name, marker, earlier) for name, marker in sorted(closure.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pin(name: str, marker: str, earlier: list[str]) -> str:
    try:
        # Without the local part: torch's +cpu is what one host offers and another does not.
        version = Version(importlib.metadata.version(name)).public
    except importlib.metadata.PackageNotFoundError:
        return _pinned_before(name, marker, earlier)
    return f"{name}=={version}" + (f" ; {marker}" if marker else "")


def _pinned_before(name: str, marker: str, earlier: list[str]) -> str:
    """A distribution that only another Python needs keeps its line."""
    kept = next((line for line in earlier if line.startswith(f"{name}==")), None)
    if kept is None:
        sys.exit(f"error: {name} ({marker or 'always'}) is not installed; `pip install {name}`, then `make lock` again")
    return kept


if __name__ == "__main__":
    main()
