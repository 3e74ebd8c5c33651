"""Loading models: what is wrong with an installation is never an item's fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import config
from config.models import ModelSpec, load_models
from workers.engines import registry
from workers.engines.base import ModelUnloadable
from workers.engines.registry import EngineRegistry


@pytest.fixture
def broken(tmp_path: Path) -> ModelSpec:
    """The embedding model, whose folder holds something else."""
    spec = load_models(Path(config.__file__).with_name("models.yaml"))["all-MiniLM-L6-v2"]
    (tmp_path / "config.json").write_text("not json")
    stable = replace(spec.versions[spec.stable_version], package=None, path=str(tmp_path))
    return replace(spec, versions={spec.stable_version: stable})


def test_files_that_the_library_cannot_read_make_the_model_unloadable(broken: ModelSpec) -> None:
    engines = EngineRegistry({broken.alias: broken}, pool="cpu", device="cpu")
    with pytest.raises(ModelUnloadable, match=broken.alias):
        engines.engine(model=broken.alias, version=broken.stable_version, endpoint="/v1/embeddings")


def test_a_model_that_cannot_be_loaded_stands_in_no_others_way(broken: ModelSpec) -> None:
    echo = replace(broken, alias="echo", engine="echo")
    engines = EngineRegistry({broken.alias: broken, "echo": echo}, pool="cpu", device="cpu")
    with pytest.raises(ModelUnloadable):
        engines.warm()
    assert engines.warm_aliases() == ("echo",)
    assert engines.unloadable_aliases() == (broken.alias,)


def test_after_a_while_a_model_that_could_not_be_loaded_is_worth_another_try(
    broken: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "UNLOADABLE_FOR_S", 0.0)
    engines = EngineRegistry({broken.alias: broken}, pool="cpu", device="cpu")
    with pytest.raises(ModelUnloadable):
        engines.warm()
    assert engines.unloadable_aliases() == ()
