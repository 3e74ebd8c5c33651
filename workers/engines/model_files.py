"""Where a model's files are on this machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from config.models import ModelVersion
from workers.engines.base import ModelUnloadable


def model_folder(version: ModelVersion) -> Path:
    """The folder that the models file names.

    Raises:
        ModelUnloadable: the package is not installed or the folder does not exist.
    """
    base = Path()
    if version.package is not None:
        package = find_spec(version.package)
        if package is None or package.origin is None:
            raise ModelUnloadable(f"the Python package {version.package} with the model's files is not installed")
        base = Path(package.origin).parent
    folder = base / (version.path or "")
    if not folder.is_dir():
        raise ModelUnloadable(f"there is no model folder {folder}; check `path` in the models file")
    return folder


def refuse_int8(version: ModelVersion) -> None:
    """Raise ModelUnloadable where a version asks for a precision that only embeddings have."""
    if version.precision == "int8":
        raise ModelUnloadable(f"version {version.name} is int8, which only the engine sentence_transformers offers")
