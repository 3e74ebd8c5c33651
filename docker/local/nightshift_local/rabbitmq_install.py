"""Finding RabbitMQ, or getting it: installed, else by apt, else unpacked into the virtual environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Not /usr/sbin/rabbitmq-server: that wrapper changes the user and loses the environment.
_SERVER = Path("usr/lib/rabbitmq/bin/rabbitmq-server")
_UNPACKED = Path(sys.prefix) / "opt" / "rabbitmq"
_PACKAGE = "rabbitmq-server"
_APT_TIMEOUT_S = 900

# Debian starts a service as soon as its package is installed; policy-rc.d is its way to say no.
_APT_SCRIPT = """
set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
fi
install="apt-get install -y -q --no-install-recommends rabbitmq-server"
$install || { apt-get update -q && $install; }
systemctl disable --quiet rabbitmq-server 2>/dev/null || true
"""


@dataclass(frozen=True, slots=True)
class RabbitInstallation:
    """Where a usable RabbitMQ lies.

    Attributes:
        root: ``/`` for the system's own, else the folder it was unpacked into.
    """

    root: Path

    @property
    def server(self) -> Path:
        """The start script that keeps the environment."""
        return self.root / _SERVER

    @property
    def control(self) -> Path:
        """``rabbitmqctl`` without the wrapper that changes the user."""
        return self.server.with_name("rabbitmqctl")

    @property
    def epmd(self) -> Path:
        """Erlang's port mapper."""
        return self.root / "usr/bin/epmd"

    @property
    def search_path(self) -> str:
        """PATH with this installation's Erlang in front."""
        return f"{self.root / 'usr/bin'}:{os.environ.get('PATH', os.defpath)}"

    def is_usable(self) -> bool:
        """Whether server and Erlang are both there."""
        return all(os.access(path, os.X_OK) for path in (self.server, self.epmd))


def find_rabbitmq() -> RabbitInstallation | None:
    """The installed RabbitMQ, or the one unpacked earlier."""
    candidates = (RabbitInstallation(Path("/")), RabbitInstallation(_UNPACKED))
    return next((candidate for candidate in candidates if candidate.is_usable()), None)


def get_rabbitmq(say: Callable[[str], None]) -> RabbitInstallation | None:
    """Find RabbitMQ, or install it where that is possible.

    Args:
        say: told what is being done and what failed.
    Returns:
        None where no way works; Redis must then be the broker.
    """
    found = find_rabbitmq()
    if found or not shutil.which("apt-get"):
        return found
    for install in (_install_with_apt, _unpack_packages):
        try:
            install(say)
        except (OSError, subprocess.SubprocessError) as error:
            say(f"That did not work: {_reason(error)}")
        found = find_rabbitmq()
        if found:
            return found
    return None


def _install_with_apt(say: Callable[[str], None]) -> None:
    """Install the package as root; its own service is neither started nor enabled."""
    become_root: list[str] = []
    if os.geteuid() != 0:
        if not shutil.which("sudo") or subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode != 0:
            return
        become_root = ["sudo", "-n"]
    say("Installing RabbitMQ with apt (its system service is not started) ...")
    _run([*become_root, "sh", "-c", _APT_SCRIPT])


def _unpack_packages(say: Callable[[str], None]) -> None:
    """Download RabbitMQ and Erlang as an ordinary user and unpack them; only the project changes."""
    if not shutil.which("dpkg-deb"):
        return
    say(f"Unpacking RabbitMQ and Erlang into {_UNPACKED} (no right to install packages) ...")
    _UNPACKED.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_UNPACKED.parent) as folder:
        packages, tree = Path(folder, "packages"), Path(folder, "tree")
        packages.mkdir()
        apt = _private_apt(packages)
        _run([*apt, "download", *_needed_packages(apt)], cwd=packages)
        for package in sorted(packages.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(tree)])
        _relocate_erlang(tree)
        shutil.rmtree(_UNPACKED, ignore_errors=True)
        tree.rename(_UNPACKED)


def _private_apt(folder: Path) -> list[str]:
    """An apt-get that works without root; with package lists of its own where the system has none."""
    plain = ["apt-get", "-q"]
    if "Inst " in _simulate(plain):
        return plain
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    private = [*plain, "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder}"]
    _run([*private, "update"])
    return private


def _simulate(apt: Sequence[str]) -> str:
    argv = [*apt, "install", "--simulate", "--no-install-recommends", _PACKAGE]
    return subprocess.run(argv, capture_output=True, text=True, timeout=_APT_TIMEOUT_S).stdout


def _needed_packages(apt: Sequence[str]) -> list[str]:
    """RabbitMQ and its Erlang; what a system service would need besides (socat, logrotate) is not used."""
    missing = re.findall(r"^Inst (\S+)", _simulate(apt), flags=re.MULTILINE)
    return [name for name in missing if name.startswith("erlang-") or name == _PACKAGE]


def _relocate_erlang(tree: Path) -> None:
    """Point Erlang's start scripts, which name /usr/lib/erlang, to where they will lie."""
    for script in tree.glob("usr/lib/erlang/**/bin/erl"):
        text = script.read_text(encoding="utf-8")
        script.write_text(text.replace("/usr/lib/erlang", str(_UNPACKED / "usr/lib/erlang")), encoding="utf-8")


def _run(argv: Sequence[str], *, cwd: Path | None = None) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, cwd=cwd, timeout=_APT_TIMEOUT_S)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        return str(error.stderr).strip().splitlines()[-1]
    return str(error)
