"""Where one stack keeps everything: its folder, and the short-lived folder for unix sockets."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nightshift_local.errors import StackError

PROJECT_ROOT = Path(__file__).resolve().parents[3]
# sockaddr_un.sun_path holds 108 bytes; servers append names of their own.
_LONGEST_SOCKET_FOLDER = 70
_UNUSABLE = frozenset("%\"'$`;\\\n")
"""What supervisor, RabbitMQ or a shell would not take for a part of a path."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one stack, and the names inside it."""

    root: Path

    @property
    def data(self) -> Path:
        """What must survive a restart: one folder per server."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """``NAME.log`` per process, rotated by supervisor."""
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        """``NAME.pid`` per process."""
        return self.root / "pids"

    @property
    def run(self) -> Path:
        """Generated configuration and launch scripts; written anew at each start."""
        return self.root / "run"

    @property
    def env_file(self) -> Path:
        """What a client of the stack needs (shell syntax)."""
        return self.root / "env"

    @property
    def settings_file(self) -> Path:
        """What the processes of the stack need (shell syntax)."""
        return self.root / "settings.env"

    @property
    def sockets(self) -> Path:
        """A folder for unix sockets whose path is short enough for the kernel."""
        if len(str(self.run)) <= _LONGEST_SOCKET_FOLDER:
            return self.run
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}-{digest}"

    def create(self) -> None:
        """Make the folders, readable by their owner only.

        Raises:
            StackError: the folder cannot be written, belongs to somebody else, or its path cannot be written into
                the servers' configuration.
        """
        unusable = sorted(_UNUSABLE & set(str(self.root)))
        if unusable:
            raise StackError(
                f"The path of the stack's folder, {str(self.root)!r}, holds {' '.join(map(repr, unusable))}, which the "
                "servers' configuration files cannot express. Set NIGHTSHIFT_HOME to another folder."
            )
        try:
            for folder in (self.root, self.data, self.logs, self.pids, self.run, self.sockets):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise StackError(
                f"The stack's folder {self.root} cannot be made private to this user ({error.strerror}: "
                f"{error.filename}). Set NIGHTSHIFT_HOME to a folder that you own."
            ) from error

    def remove_sockets(self) -> None:
        """Drop the socket folder where it lies outside the stack's own folder."""
        if self.sockets != self.run:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def write_private(self, path: Path, text: str, *, mode: int = 0o600) -> None:
        """Replace a file in one step, never readable by others in between."""
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)


def find_home() -> Home:
    """The stack's folder: ``NIGHTSHIFT_HOME``, else ``.nightshift`` in the project."""
    configured = os.environ.get("NIGHTSHIFT_HOME")
    return Home(Path(configured).expanduser().resolve() if configured else PROJECT_ROOT / ".nightshift")
