"""Builds the images and looks into them: ``make images``.

Uses Docker, Podman or Buildah, whichever works here. The environment may name:

- ``NIGHTSHIFT_IMAGE_TAG``: tag of both images; ``latest`` unless told.
- ``NIGHTSHIFT_IMAGE_BASE``: the base image, for both.
- ``NIGHTSHIFT_TORCH_INDEX``: the index that torch comes from; empty: where all else comes from.
- ``NIGHTSHIFT_BUILD_OPTIONS``: more options for the build, such as ``--secret id=pip,src=/etc/pip.conf``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "config" / "lock"
LOCK_OF = {"api": "api", "worker": "worker"}
UNWANTED = ("cc", "gcc", "c++", "g++", "clang")
"""Compilers; no image may hold one."""
ENGINES = {"docker": ["docker", "info"], "podman": ["podman", "info"], "buildah": ["buildah", "info"]}
"""Each with a command that works only where the engine does: a client may be there without its server."""

LOOK = """
import importlib.metadata, importlib.util, json, os, shutil, sys
found = {
    "uid": os.getuid(),
    "unwanted": [name for name in sys.argv[1:] if shutil.which(name)],
    "has_torch": importlib.util.find_spec("torch") is not None,
    "versions": {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()},
}
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Pin:
    """A line of a lock."""

    version: str
    everywhere: bool
    """Whether every Python needs it."""


@dataclass(frozen=True, slots=True)
class Builder:
    """One of the three engines."""

    name: str

    def build(self, dockerfile: Path, tag: str, arguments: Mapping[str, str], options: Sequence[str]) -> None:
        """Build an image from the checkout."""
        verb = "bud" if self.name == "buildah" else "build"
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        subprocess.run([self.name, verb, *options, *given, "-f", str(dockerfile), "-t", tag, str(ROOT)], check=True)

    def run(self, tag: str, command: Sequence[str]) -> str:
        """Run a command in a fresh container, as the image's user; give what it prints."""
        if self.name != "buildah":
            return _output([self.name, "run", "--rm", "--network=none", tag, *command])
        container = _output(["buildah", "from", "--pull-never", tag])
        try:
            return _output(["buildah", "run", container, "--", *command])
        finally:
            _output(["buildah", "rm", container])


def main() -> None:
    """Build and check every image; the first that is not as it should be ends it."""
    builder = find_builder()
    tag = os.environ.get("NIGHTSHIFT_IMAGE_TAG", "latest")
    for name in LOCK_OF:
        image = f"nightshift-{name}:{tag}"
        options = shlex.split(os.environ.get("NIGHTSHIFT_BUILD_OPTIONS", ""))
        builder.build(ROOT / "docker" / f"{name}.Dockerfile", image, build_arguments(name, os.environ), options)
        found = json.loads(builder.run(image, ["python", "-c", LOOK, *UNWANTED]))
        if problems := problems_of(name, found):
            sys.exit(f"error: {image} was built, but {'; '.join(problems)}")
        print(f"{image}: {len(found['versions'])} distributions as locked, user {found['uid']}, no compiler")
        print(builder.run(image, ["nightshift", "--help"]).splitlines()[0])


def find_builder() -> Builder:
    """The first engine that answers."""
    for name, probe in ENGINES.items():
        if shutil.which(name) and subprocess.run(probe, capture_output=True).returncode == 0:
            return Builder(name)
    sys.exit("error: images need Docker, Podman or Buildah; on Debian and Ubuntu `apt-get install buildah` brings one")


def build_arguments(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The build arguments that the environment names for an image."""
    wanted = {"BASE": "NIGHTSHIFT_IMAGE_BASE"}
    if name == "worker":
        wanted["TORCH_INDEX"] = "NIGHTSHIFT_TORCH_INDEX"
    return {argument: environ[variable] for argument, variable in wanted.items() if variable in environ}


def problems_of(name: str, found: Mapping[str, Any]) -> list[str]:
    """What is wrong with an image, as sentences."""
    problems = []
    if found["uid"] == 0:
        problems.append("its processes run as root")
    if found["unwanted"]:
        problems.append(f"it holds {found['unwanted']}")
    if found["has_torch"] != (name == "worker"):
        problems.append("it has torch" if found["has_torch"] else "it has no torch")
    installed = {normal(key): version for key, version in found["versions"].items()}
    return problems + differences(locked(LOCK_OF[name]), installed)


def differences(wanted: Mapping[str, Pin], installed: Mapping[str, str]) -> list[str]:
    """Where what is installed is not what is locked. Local parts of versions (``+cpu``) do not count."""
    public = {name: version.partition("+")[0] for name, version in installed.items()}
    wrong = [
        f"{name} is {public.get(name, 'missing')} and not {pin.version}"
        for name, pin in wanted.items()
        if public.get(name) != pin.version and (pin.everywhere or name in public)
    ]
    return wrong + [f"{name} is in no lock" for name in sorted(public.keys() - wanted.keys() - {"nightshift"})]


def locked(lock: str) -> dict[str, Pin]:
    """All that a lock pins, by name, with the locks it builds on."""
    pins: dict[str, Pin] = {}
    for line in (LOCKS / f"{lock}.txt").read_text(encoding="utf-8").splitlines():
        if base := re.fullmatch(r"-r (\w+)\.txt", line):
            pins.update(locked(base[1]))
        elif pin := re.fullmatch(r"([\w.-]+)==([\w.]+)( ;.*)?", line):
            pins[normal(pin[1])] = Pin(pin[2], everywhere=pin[3] is None)
    return pins


def normal(name: str) -> str:
    """A distribution's name as all spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: `{shlex.join(command)[:200]}` failed; its message is above")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
