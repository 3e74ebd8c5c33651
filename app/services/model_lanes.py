"""In which lanes each model may run now, and which workers those are: used to grant chunks and to foretell them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from app.db.repositories.workers import LiveWorker
from app.domain.placement import Lane, lanes_for
from app.services.pool_rates import PoolRates
from config.models import ModelSpec

Lanes = dict[str, Lane]
"""By name."""


def lane_of(worker: LiveWorker) -> Lane:
    """The lane that a live worker is part of."""
    return Lane(worker.pool, frozenset(worker.unloadable_models))


def lanes_of(workers: Sequence[LiveWorker]) -> Lanes:
    """The lanes that live workers make up."""
    return {lane.name: lane for lane in map(lane_of, workers)}


class ModelLanes:
    """The lanes of every model, as long as the same workers live."""

    def __init__(self, models: Mapping[str, ModelSpec], lanes: Lanes, rates: PoolRates) -> None:
        self._models = models
        self._lanes = lanes
        self._rates = rates
        self._known: dict[tuple[str | None, str | None], tuple[str, ...]] = {}

    def of(self, alias: str | None, version: str | None) -> tuple[str, ...]:
        """Where a model's jobs may run; one that is not usable fails item by item, wherever that is."""
        if (alias, version) not in self._known:
            model = self._models.get(alias or "") if version else None
            self._known[alias, version] = lanes_for(
                model.alias if model else None,
                model.pools if model else None,
                self._lanes.values(),
                rate_of=lambda pool: self._rates.of(alias, version, pool),
            )
        return self._known[alias, version]


class LaneWorkers:
    """The live workers by their lanes."""

    def __init__(self, workers: Iterable[LiveWorker]) -> None:
        self._by_lane: dict[str, list[LiveWorker]] = defaultdict(list)
        for worker in workers:
            self._by_lane[lane_of(worker).name].append(worker)

    def queues(self, lanes: Collection[str]) -> list[str]:
        """The queues of the workers of some lanes."""
        return [worker.queue for lane in lanes for worker in self._by_lane[lane]]

    def n_by_pool(self, lanes: Collection[str]) -> Counter[str]:
        """How many workers of each pool some lanes have."""
        return Counter(worker.pool for lane in lanes for worker in self._by_lane[lane])

    def largest(self, lanes: Collection[str]) -> str:
        """The one of some lanes that has the most workers."""
        return max(lanes, key=lambda lane: (len(self._by_lane[lane]), lane))
