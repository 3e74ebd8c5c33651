from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from documentation import ROOT, blocks_of

from config.models import ModelsFileError, UpstreamServer, load_models

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
        ({"pools": ["cpu", "GPU"]}, "`pools`"),
        ({"pools": ["cpu", "gpu", "gpu"]}, "`pools`"),
        ({"pools": ["cpu", "gpu.0"]}, "`pools`"),
        ({"pools": ["cpu"]}, "which are none of `pools`"),
        ({"pools": ["cpu", "gpu", "tpu"]}, "lacks the pools"),
        ({"versions": {"v1": {"precision": "fp4"}}}, "`precision`"),
        ({"versions": {"v1": {"precison": "fp32"}}}, "precison"),
        ({"max_input_token": 5}, "max_input_token"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    path = _write(tmp_path, [{**_shipped_echo(), **change}])

    with pytest.raises(ModelsFileError, match=named):
        load_models(path)


_SERVER = {"base_url": "http://127.0.0.1:8001/v1/", "upstream_model": "llama"}


def _upstream(**version: Any) -> dict[str, Any]:
    versions = {"v1": {**_SERVER, **version}}
    return {**_shipped_echo(), "engine": "upstream", "endpoints": ["/v1/chat/completions"], "versions": versions}


def test_an_upstream_model_says_where_it_is_and_what_it_is_called_there(tmp_path: Path) -> None:
    entry = _upstream(api_key_variable="VLLM_API_KEY", max_concurrency=8, request_timeout_s=30)

    server = load_models(_write(tmp_path, [entry]))["echo"].versions["v1"].upstream

    assert server == UpstreamServer("http://127.0.0.1:8001/v1", "llama", "VLLM_API_KEY", 8, 30.0)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (_upstream(base_url="127.0.0.1:8001"), "`base_url`"),
        (_upstream(base_url="http://key:secret@host/v1"), "api_key_variable"),
        (_upstream(api_key_variable="sk-12345"), "`api_key_variable`"),
        (_upstream(max_concurrency=0), "`max_concurrency`"),
        (_upstream(request_timeout_s="soon"), "`request_timeout_s`"),
        (_upstream(path="/models/llama"), "no files"),
        ({**_upstream(), "versions": {"v1": {}}}, "`base_url` and `upstream_model`"),
        ({**_upstream(), "engine": "echo"}, "`base_url` is for the engine upstream"),
        ({**_shipped_echo(), "engine": "transformers"}, "`path`"),
        ({**_shipped_echo(), "endpoints": ["/v1/embeddings"]}, "the engine echo answers /v1/chat/completions"),
        ({**_upstream(), "endpoints": ["/v1/chat"]}, "`endpoints`"),
    ],
)
def test_where_a_model_is_found_must_fit_its_engine(tmp_path: Path, entry: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelsFileError, match=named):
        load_models(_write(tmp_path, [entry]))


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


def test_the_entries_that_the_documentation_shows_can_be_used(tmp_path: Path) -> None:
    entries = [block.text for block in blocks_of(ROOT / "docs" / "models.md") if block.language == "yaml"]
    assert entries
    file = tmp_path / "models.yaml"
    file.write_text("models:\n" + "".join(entries), encoding="utf-8")
    engines = [spec.engine for spec in load_models(file).values()]
    assert engines == ["sentence_transformers", "cross_encoder", "sequence_classifier", "transformers", "upstream"]
