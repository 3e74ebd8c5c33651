"""Checks of the machine this process runs on."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.installation.checks import Check, failed, ok, warning
from config.models import ModelsFileError, load_models
from config.settings import Settings

GIB = 1024**3
SCARCE_BYTES = 2 * GIB
TOO_LITTLE_BYTES = GIB // 4


def check_disk(settings: Settings) -> Check:
    """This machine's processes find room: for their counters, and in the local stack for every server's data."""
    free_bytes = _free_bytes(settings.metrics_dir)
    found = f"{free_bytes / GIB:.1f} GiB free under {settings.metrics_dir}"
    if free_bytes < TOO_LITTLE_BYTES:
        return failed("disk", found, advice="free some space: the servers cannot write")
    if free_bytes < SCARCE_BYTES:
        return warning("disk", found, advice="free some space before the next big job")
    return ok("disk", found)


def check_configuration(settings: Settings) -> Check:
    """The models file can be read, and the defaults nobody should keep are not kept."""
    try:
        catalog = load_models(settings.models_file)
    except ModelsFileError as error:
        return failed("configuration", str(error), advice="mend the models file")
    if not settings.admin_key:
        return warning("configuration", "NIGHTSHIFT_ADMIN_KEY is empty", advice="set it to make API keys by the API")
    return ok("configuration", f"models {', '.join(catalog)}; queues {', '.join(settings.queues)}")


def _free_bytes(folder: Path) -> int:
    """Free space where the folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
