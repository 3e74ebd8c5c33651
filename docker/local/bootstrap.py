"""Makes ``.venv`` from the locks; run by every make target, with nothing but the system's Python.

``python3 docker/local/bootstrap.py dev`` installs ``config/lock/dev.txt`` and all that it refers to. A second
run finds that nothing changed and returns within a tenth of a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = ROOT / "config" / "lock"
# Which locks are installed, and the digest of what they were made from.
RECORD = VENV / "nightshift-locks.json"
OLDEST = (3, 11)
NEWER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11")
# Each lock contains those before it.
ORDER = ("api", "worker", "local", "dev")


def main() -> None:
    """Bring ``.venv`` up to the lock named on the command line."""
    lock = sys.argv[1] if len(sys.argv) > 1 else "local"
    if sys.version_info < OLDEST:
        run_again_with_newer_python()
    if is_up_to_date(lock):
        return
    if not has_working_venv():
        make_venv()
    install(lock)
    RECORD.write_text(json.dumps({"lock": lock, "digest": digest()}), encoding="utf-8")


def run_again_with_newer_python() -> NoReturn:
    """Replace this process by the same one under a newer Python."""
    found = next((path for path in map(shutil.which, NEWER_PYTHONS) if path), None)
    if found is None:
        sys.exit(f"error: Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}.")
    os.execv(found, [found, *sys.argv])


def is_up_to_date(lock: str) -> bool:
    """Whether this lock, or one that contains it, is installed as it stands now."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        return bool(record["digest"] == digest() and ORDER.index(record["lock"]) >= ORDER.index(lock))
    except (OSError, ValueError, KeyError):
        return False


def digest() -> str:
    """One digest over everything that decides what is installed."""
    files = [*sorted(LOCKS.glob("*.txt")), ROOT / "setup.cfg", ROOT / "pyproject.toml"]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def has_working_venv() -> bool:
    """Whether ``.venv`` has a Python that runs (a moved folder or a removed Python breaks it)."""
    probe = [str(PYTHON), "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"]
    try:
        return subprocess.run(probe, capture_output=True).returncode == 0
    except OSError:
        return False


def make_venv() -> None:
    """Make an empty virtual environment, installing Debian's package for it where that is possible."""
    say(f"Making {VENV.name} with Python {sys.version.split()[0]} ...")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0 and install_venv_package():
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        said = (result.stdout + result.stderr).strip()
        sys.exit(
            f"error: {sys.executable} cannot make a virtual environment:\n{said}\n"
            "On Debian and Ubuntu `apt-get install python3-venv` as root mends that."
        )


def install_venv_package() -> bool:
    """Install python3-venv with apt, as root or through sudo without a password; whether that worked."""
    become_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (become_root and not shutil.which("sudo")):
        return False
    package = f"python3.{sys.version_info.minor}-venv"
    say(f"Installing {package} with apt ...")
    install = f"apt-get install -y -q --no-install-recommends {package}"
    script = f"export DEBIAN_FRONTEND=noninteractive; {install} || {{ apt-get update -q && {install}; }}"
    return subprocess.run([*become_root, "sh", "-c", script], capture_output=True).returncode == 0


def install(lock: str) -> None:
    """Install the lock, then the project itself in place."""
    say(f"Installing config/lock/{lock}.txt into {VENV.name}; the first time this takes some minutes ...")
    pip("install", "-r", str(LOCKS / f"{lock}.txt"))
    # setuptools comes with the lock, so the project needs no build environment of its own.
    pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def pip(*arguments: str) -> None:
    """Run pip quietly; its own words where it fails."""
    command = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.run(command).returncode != 0:
        sys.exit(
            f"error: `{' '.join(command)}` failed; pip's message is above. "
            "Without a way to a package index nothing can be installed."
        )


def say(text: str) -> None:
    """Tell the person what is going on."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
