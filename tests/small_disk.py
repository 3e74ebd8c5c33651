"""A small disk under a server's data, that can be filled and freed; mounting one needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MIB = 2**20


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A tmpfs over a folder."""

    folder: Path

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave no byte, also of what was given back since the last time."""
        with self.ballast.open("ab", buffering=0) as file:
            for size_bytes in (MIB, 4096):
                try:
                    while file.write(b"\0" * size_bytes) == size_bytes:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Give back what ``fill`` took."""
        self.ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, *, spare_mib: int) -> Iterator[SmallDisk]:
    """Put a folder's content on a disk with so much room to spare, and back; nobody may use the folder meanwhile."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root: run `make chaos` as root for these rows")
    aside = folder.with_name(f"{folder.name}.aside")
    size_mib = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // MIB + spare_mib
    folder.rename(aside)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)
    _copy(aside, folder)
    disk = SmallDisk(folder)
    try:
        yield disk
    finally:
        disk.free()
        shutil.rmtree(aside)
        _copy(folder, aside)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)


def _copy(source: Path, target: Path) -> None:
    """With owners and modes, the folder's own among them."""
    subprocess.run(["cp", "-aT", str(source), str(target)], check=True)
