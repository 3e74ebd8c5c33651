from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.models import ModelsFileError, load_models

SHIPPED = Path(__file__).parents[2] / "config" / "models.yaml"


def _write(folder: Path, models: Any) -> Path:
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({"models": models}))
    return path


def _shipped_echo() -> dict[str, Any]:
    models = yaml.safe_load(SHIPPED.read_text())["models"]
    return next(model for model in models if model["alias"] == "echo")


def test_the_shipped_file_holds_the_default_model_and_echo() -> None:
    models = load_models(SHIPPED)

    minilm = models["all-MiniLM-L6-v2"]
    assert (minilm.max_input_tokens, minilm.dimensions, minilm.stable_version) == (256, 384, "fp32")
    assert set(minilm.versions) == {"fp32", "int8"}
    assert minilm.list_price_per_million_tokens == Decimal("0.02")
    assert models["echo"].serves("/v1/echo")
    assert not models["echo"].serves("/v1/embeddings")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"engine": "magic"}, "`engine`"),
        ({"max_input_tokens": 0}, "`max_input_tokens`"),
        ({"max_input_tokens": True}, "`max_input_tokens`"),
        ({"endpoints": []}, "`endpoints`"),
        ({"stable_version": "v9"}, "stable_version"),
        ({"list_price_per_million_tokens": 0.02}, "in quotes"),
        ({"list_price_per_million_tokens": "-1"}, "`list_price_per_million_tokens`"),
        ({"batch_discount": "1.5"}, "`batch_discount`"),
        ({"assumed_tokens_per_second": {"cpu": 5}}, "gpu"),
        ({"assumed_tokens_per_second": {"cpu": 5, "gpu": -1}}, "`assumed_tokens_per_second`"),
        ({"versions": {"v1": {"precision": "fp4"}}}, "`precision`"),
        ({"versions": {"v1": {"precison": "fp32"}}}, "precison"),
        ({"max_input_token": 5}, "max_input_token"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    path = _write(tmp_path, [{**_shipped_echo(), **change}])

    with pytest.raises(ModelsFileError, match=named):
        load_models(path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    entry = _shipped_echo()
    del entry["currency"]

    with pytest.raises(ModelsFileError, match="`currency` is missing"):
        load_models(_write(tmp_path, [entry]))


def test_one_alias_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelsFileError, match="twice"):
        load_models(_write(tmp_path, [_shipped_echo(), _shipped_echo()]))


@pytest.mark.parametrize("text", ["models: []", "- 1", "{", ""])
def test_a_file_without_models_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)

    with pytest.raises(ModelsFileError):
        load_models(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelsFileError, match=r"absent\.yaml"):
        load_models(tmp_path / "absent.yaml")
