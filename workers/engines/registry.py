"""The engines of one process: each model version is loaded once, when first asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from app.errors import ModelNotFound, NightshiftError
from config.models import ModelSpec, ModelVersion, UpstreamServer
from config.settings import read_secret
from workers.engines.base import AnyEngine, ModelUnloadable
from workers.engines.echo import EchoEngine
from workers.engines.tuning import NOT_MEASURED, PassSizes
from workers.engines.upstream import UpstreamEngine

UNLOADABLE_FOR_S = 60.0
"""A model that could not be loaded is not asked for again for this long: files may be mended meanwhile."""


class EngineRegistry:
    """Loads and keeps engines. Thread-safe; whoever asks while a model loads waits for that model, and for no other."""

    def __init__(
        self, models: Mapping[str, ModelSpec], *, pool: str, device: str, pass_sizes: PassSizes = NOT_MEASURED
    ) -> None:
        """Know the models without loading any.

        Args:
            pool: the kind of worker this process is; models of other pools are refused.
            device: ``cpu`` or ``cuda:0``.
            pass_sizes: where engines find, or keep, how many tokens a pass should hold.
        """
        self._pass_sizes = pass_sizes
        self._models = models
        self._pool = pool
        self._device = device
        self._engines: dict[tuple[str, str], AnyEngine] = {}
        self._failed_at_s: dict[tuple[str, str], float] = {}
        self._loading = {
            (spec.alias, version): threading.Lock() for spec in models.values() for version in spec.versions
        }

    def engine(self, *, model: str, version: str, endpoint: str) -> AnyEngine:
        """Return the engine that answers ``endpoint`` with this model version, loading it if need be.

        Raises:
            ModelNotFound: no such model, version or route, or not in this pool.
            ModelUnloadable: its files are missing or unfit for the device.
        """
        spec = self._models.get(model)
        if spec is None or version not in spec.versions:
            raise ModelNotFound(f"there is no model {model!r} in version {version!r}", param="model")
        if not spec.serves(endpoint):
            raise ModelNotFound(f"{model} answers {', '.join(spec.endpoints)}, not {endpoint}", param="model")
        if self._pool not in spec.pools:
            raise ModelNotFound(f"{model} is served by the pools {', '.join(spec.pools)}, not by {self._pool}")
        return self._loaded(spec, version).serving(endpoint)

    def warm(self) -> None:
        """Load the stable version of every model of this pool; one that cannot be loaded stands in no other's way.

        Raises:
            ModelUnloadable: the first that could not be loaded, after all were tried.
        """
        problems = []
        for spec in self._models.values():
            if self._pool in spec.pools:
                try:
                    self._loaded(spec, spec.stable_version)
                except ModelUnloadable as problem:
                    problems.append(problem)
        if problems:
            raise problems[0]

    def warm_aliases(self) -> tuple[str, ...]:
        """The models whose weights are loaded."""
        return tuple(dict.fromkeys(alias for alias, _ in tuple(self._engines)))

    def unloadable_aliases(self) -> tuple[str, ...]:
        """The models that could not be loaded lately; after a while each is worth another try."""
        since_s = time.monotonic() - UNLOADABLE_FOR_S
        failed = tuple(self._failed_at_s.items())
        return tuple(dict.fromkeys(alias for (alias, _), failed_at_s in failed if failed_at_s > since_s))

    def _loaded(self, spec: ModelSpec, version: str) -> AnyEngine:
        key = (spec.alias, version)
        with self._loading[key]:
            if key not in self._engines:
                try:
                    self._engines[key] = _load(
                        spec, spec.versions[version], device=self._device, pass_sizes=self._pass_sizes
                    )
                except NightshiftError:
                    self._failed_at_s[key] = time.monotonic()
                    raise
                self._failed_at_s.pop(key, None)
            return self._engines[key]


def _load(spec: ModelSpec, version: ModelVersion, *, device: str, pass_sizes: PassSizes) -> AnyEngine:
    """Load a model; whatever its library raises means that the installation is at fault, and no item."""
    if spec.engine == "echo":
        return EchoEngine()
    if version.upstream is not None:
        return UpstreamEngine(spec.alias, version.upstream, key=_upstream_key(spec, version.upstream))
    try:
        return _with_files(spec, version, device=device, pass_sizes=pass_sizes)
    except NightshiftError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        message = f"{spec.alias}, version {version.name}, cannot be loaded on {device}: {what}; check the models file"
        raise ModelUnloadable(message) from error


def _with_files(spec: ModelSpec, version: ModelVersion, *, device: str, pass_sizes: PassSizes) -> AnyEngine:
    """Load weights. torch takes a second to import, and a worker that has none never needs it."""
    if spec.engine == "transformers":
        from workers.engines.transformers import TransformersEngine  # noqa: PLC0415

        return TransformersEngine(spec, version, device=device)
    if spec.engine == "cross_encoder":
        from workers.engines.cross_encoder import CrossEncoderEngine  # noqa: PLC0415

        return CrossEncoderEngine(spec, version, device=device)
    if spec.engine == "sequence_classifier":
        from workers.engines.sequence_classifier import SequenceClassifierEngine  # noqa: PLC0415

        return SequenceClassifierEngine(spec, version, device=device)
    from workers.engines.sentence_transformers import SentenceTransformersEngine  # noqa: PLC0415

    engine = SentenceTransformersEngine(spec, version, device=device)
    engine.settle_pass_size(pass_sizes)
    return engine


def _upstream_key(spec: ModelSpec, server: UpstreamServer) -> str | None:
    if server.api_key_variable is None:
        return None
    key = read_secret(server.api_key_variable)
    if key is None:
        message = f"{spec.alias} needs {server.api_key_variable}, the key of {server.base_url}: set it for this worker"
        raise ModelUnloadable(message)
    return key
