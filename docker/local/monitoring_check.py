"""``make monitoring-check``: promtool over the Prometheus configuration, the rules and their tests.

It takes promtool where there is one; on Debian and Ubuntu it else unpacks the one of the package ``prometheus`` into
``.nightshift/tools``, without installing anything.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "docker" / "monitoring"
TOOLS = ROOT / ".nightshift" / "tools"
CHECKS = (
    ("check", "config", "prometheus.yml"),
    ("check", "rules", "rules.yml"),
    ("test", "rules", "rules.test.yml"),
)


def main() -> None:
    """Run every check, also past a failing one; exit 1 where any failed."""
    tool = _find()
    results = [subprocess.run([tool, *check], cwd=MONITORING).returncode for check in CHECKS]
    sys.exit(1 if any(results) else 0)


def _find() -> str:
    found = shutil.which("promtool")
    unpacked = TOOLS / "usr" / "bin" / "promtool"
    if found is None and not unpacked.exists():
        _unpack()
    return found or str(unpacked)


def _unpack() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        sys.exit("promtool is not installed, and there is no apt to get it with: install Prometheus")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, check=True)
        (package,) = Path(folder).glob("prometheus_*.deb")
        TOOLS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(package), str(TOOLS)], check=True)


if __name__ == "__main__":
    main()
