"""The models that Nightshift serves, read once from ``config/models.yaml``, typed and frozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml

Precision = Literal["fp32", "int8"]
Value = TypeVar("Value")

ENGINES_WITH_FILES = frozenset({"sentence_transformers", "transformers", "cross_encoder", "sequence_classifier"})
UPSTREAM = "upstream"
ENDPOINTS_OF = {
    "sentence_transformers": {"/v1/embeddings"},
    "transformers": {"/v1/chat/completions", "/v1/completions"},
    "cross_encoder": {"/v1/rerank"},
    "sequence_classifier": {"/v1/classify"},
    UPSTREAM: {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/classify"},
    "echo": {"/v1/echo", "/v1/chat/completions"},
}
"""What each engine can answer."""
ENGINES = frozenset(ENDPOINTS_OF)
MAX_CONCURRENCY = 64
REQUEST_TIMEOUT_S = 600.0
_VARIABLE = re.compile(r"^[A-Z_][A-Z0-9_]*$")
_POOL = re.compile(r"[a-z][a-z0-9]*\Z")


class ModelsFileError(Exception):
    """The models file cannot be used; the message names the model, the field and what it should hold."""


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """An OpenAI-compatible server that has the model."""

    base_url: str
    """With the ``/v1`` and without a slash at the end."""
    model: str
    """The model's name there."""
    api_key_variable: str | None
    """The environment variable of the worker that holds the key; None where the server asks for none."""
    max_concurrency: int
    """Requests that one worker keeps there at once, at most."""
    request_timeout_s: float
    """What one request may take where its job sets no ``item_timeout_s``."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """How one version of a model is loaded."""

    name: str
    package: str | None
    """Installed Python package that holds the files; None: ``path`` is a folder on disk."""
    path: str | None
    """Folder of the model, inside ``package`` or absolute; None for an engine without files."""
    precision: Precision
    upstream: UpstreamServer | None = None
    """Where the model is served; None for an engine that runs it itself."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model under the name that clients use."""

    alias: str
    engine: str
    endpoints: tuple[str, ...]
    pools: tuple[str, ...]
    max_input_tokens: int
    """Tokens in one input, special tokens counted."""
    dimensions: int | None
    """Length of an embedding; None where the model makes none."""
    versions: Mapping[str, ModelVersion]
    stable_version: str
    list_price_per_million_tokens: Decimal
    batch_discount: Decimal
    """Share of the list price that a batch does not pay, 0 to 1."""
    currency: str
    assumed_tokens_per_second: Mapping[str, float]
    """Pool -> rate of one worker, used until the pool has been measured."""
    owned_by: str
    created: int
    """Unix seconds."""

    def serves(self, endpoint: str) -> bool:
        """Whether the model answers this route."""
        return endpoint in self.endpoints


def load_models(path: Path) -> Mapping[str, ModelSpec]:
    """Read the models file into alias -> model, in the order of the file.

    Raises:
        ModelsFileError: the file is missing, is not YAML, or a field is wrong.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ModelsFileError(f"cannot read the models file {path}: {error}") from error
    entries = document.get("models") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ModelsFileError(f"{path} holds no list `models`")
    models = [_model(entry, at=f"{path}, model {number}") for number, entry in enumerate(entries, start=1)]
    by_alias = {model.alias: model for model in models}
    if len(by_alias) != len(models):
        raise ModelsFileError(f"{path} names a model twice")
    return MappingProxyType(by_alias)


def _model(entry: Any, *, at: str) -> ModelSpec:
    fields = _Fields(entry, at=at)
    at = f"{at} ({fields.take('alias', _text)})"
    spec = ModelSpec(
        alias=fields.take("alias", _text),
        engine=fields.take("engine", _one_of(ENGINES)),
        endpoints=fields.take("endpoints", _texts),
        pools=fields.take("pools", _pools),
        max_input_tokens=fields.take("max_input_tokens", _positive_integer),
        dimensions=fields.take("dimensions", _positive_integer) if "dimensions" in fields else None,
        versions=fields.take("versions", lambda value: _versions(value, at=at)),
        stable_version=fields.take("stable_version", _text),
        list_price_per_million_tokens=fields.take("list_price_per_million_tokens", _amount),
        batch_discount=fields.take("batch_discount", _share),
        currency=fields.take("currency", _text),
        assumed_tokens_per_second=fields.take("assumed_tokens_per_second", _rates),
        owned_by=fields.take("owned_by", _text),
        created=fields.take("created", _positive_integer),
    )
    fields.refuse_the_rest()
    _check_references(spec, at=at)
    return spec


def _check_references(spec: ModelSpec, *, at: str) -> None:
    if spec.stable_version not in spec.versions:
        raise ModelsFileError(f"{at}: stable_version {spec.stable_version!r} is none of {sorted(spec.versions)}")
    unrated = [pool for pool in spec.pools if pool not in spec.assumed_tokens_per_second]
    if unrated:
        raise ModelsFileError(f"{at}: assumed_tokens_per_second lacks the pools {unrated}")
    strangers = sorted(spec.assumed_tokens_per_second.keys() - set(spec.pools))
    if strangers:
        raise ModelsFileError(f"{at}: assumed_tokens_per_second names {strangers}, which are none of `pools`")
    for version in spec.versions.values():
        _check_source(spec.engine, version, at=f"{at}, version {version.name}")
    strange = sorted(set(spec.endpoints) - ENDPOINTS_OF[spec.engine])
    if strange:
        can = ", ".join(sorted(ENDPOINTS_OF[spec.engine]))
        raise ModelsFileError(f"{at}: `endpoints` names {strange}; the engine {spec.engine} answers {can}")


def _check_source(engine: str, version: ModelVersion, *, at: str) -> None:
    """A version says where its model is found, in the way of its engine."""
    has_files = version.package is not None or version.path is not None
    if engine == UPSTREAM and (version.upstream is None or has_files):
        raise ModelsFileError(f"{at}: the engine upstream needs `base_url` and `upstream_model`, and no files")
    if engine != UPSTREAM and version.upstream is not None:
        raise ModelsFileError(f"{at}: `base_url` is for the engine upstream, not for {engine}")
    if engine in ENGINES_WITH_FILES and not has_files:
        raise ModelsFileError(f"{at}: the engine {engine} needs `path`, or `package`, where the model's files are")


def _versions(value: Any, *, at: str) -> Mapping[str, ModelVersion]:
    if not isinstance(value, dict) or not value:
        raise ValueError("a mapping of at least one version")
    return MappingProxyType({str(name): _version(str(name), entry, at=at) for name, entry in value.items()})


def _version(name: str, entry: Any, *, at: str) -> ModelVersion:
    fields = _Fields(entry, at=f"{at}, version {name}")
    version = ModelVersion(
        name=name,
        package=fields.take("package", _text) if "package" in fields else None,
        path=fields.take("path", _text) if "path" in fields else None,
        precision=fields.take("precision", _precision) if "precision" in fields else "fp32",
        upstream=_upstream(fields) if "base_url" in fields else None,
    )
    fields.refuse_the_rest()
    return version


def _upstream(fields: _Fields) -> UpstreamServer:
    return UpstreamServer(
        base_url=fields.take("base_url", _base_url),
        model=fields.take("upstream_model", _text),
        api_key_variable=fields.take("api_key_variable", _variable) if "api_key_variable" in fields else None,
        max_concurrency=_optional(fields, "max_concurrency", _positive_integer, MAX_CONCURRENCY),
        request_timeout_s=_optional(fields, "request_timeout_s", _seconds, REQUEST_TIMEOUT_S),
    )


def _optional(fields: _Fields, name: str, read: Callable[[Any], Value], default: Value) -> Value:
    return fields.take(name, read) if name in fields else default


class _Fields:
    """A mapping of the file, read field by field; what was never asked for is a mistake."""

    def __init__(self, entry: Any, *, at: str) -> None:
        if not isinstance(entry, dict):
            raise ModelsFileError(f"{at}: expected a mapping, found {type(entry).__name__}")
        self._entry: dict[str, Any] = entry
        self._at = at
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._entry

    def take(self, name: str, read: Callable[[Any], Value]) -> Value:
        """Read a required field; ``read`` raises ValueError with what it expects."""
        if name not in self._entry:
            raise ModelsFileError(f"{self._at}: `{name}` is missing")
        self._taken.add(name)
        try:
            return read(self._entry[name])
        except ValueError as error:
            raise ModelsFileError(f"{self._at}: `{name}` is {self._entry[name]!r}; expected {error}") from error

    def refuse_the_rest(self) -> None:
        """Raise for fields that nobody reads: a misspelt one would be ignored in silence."""
        unknown = sorted(map(str, self._entry.keys() - self._taken))
        if unknown:
            raise ModelsFileError(f"{self._at}: unknown fields {unknown}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("a list of texts")
    return tuple(_text(element) for element in value)


def _pools(value: Any) -> tuple[str, ...]:
    pools = _texts(value)
    if len(set(pools)) != len(pools) or any(not _POOL.match(pool) for pool in pools):
        raise ValueError("a list of pools, each once, such as gpu: small letters and digits, as in the queue gpu.0")
    return pools


def _one_of(allowed: frozenset[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"one of {sorted(allowed)}")
        return str(value)

    return read


def _precision(value: Any) -> Precision:
    if value == "fp32":
        return "fp32"
    if value == "int8":
        return "int8"
    raise ValueError("fp32 or int8")


def _positive_integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("a whole number above zero")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError("a number of seconds above zero")
    return float(value)


def _base_url(value: Any) -> str:
    url = urlsplit(_text(value))
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
        raise ValueError("an address such as http://127.0.0.1:8000/v1")
    if url.username or url.password:
        raise ValueError("an address without a key in it: name the key's variable in `api_key_variable`")
    return url.geturl().rstrip("/")


def _variable(value: Any) -> str:
    if not _VARIABLE.match(_text(value)):
        raise ValueError("the name of an environment variable, such as VLLM_API_KEY; the key itself stands nowhere")
    return str(value)


def _amount(value: Any) -> Decimal:
    # A bare YAML number is a binary float by now: money is written in quotes.
    try:
        amount = Decimal(value if isinstance(value, str) else "")
    except InvalidOperation:
        raise ValueError('a decimal number in quotes, such as "0.02"') from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("an amount of zero or more")
    return amount


def _share(value: Any) -> Decimal:
    share = _amount(value)
    if share > 1:
        raise ValueError("a share between 0 and 1")
    return share


def _rates(value: Any) -> Mapping[str, float]:
    if not isinstance(value, dict) or not value:
        raise ValueError("a mapping of pool to tokens per second")
    if any(isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0 for rate in value.values()):
        raise ValueError("rates above zero")
    return MappingProxyType({str(pool): float(rate) for pool, rate in value.items()})
