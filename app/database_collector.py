"""What the collectors have in common that read Postgres when Prometheus asks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from app.errors import NightshiftError

log = structlog.get_logger(__name__)


class DatabaseCollector(Collector):
    """Tells what is read, and nothing where Postgres does not answer."""

    @abstractmethod
    def read(self) -> Iterable[Metric]:
        """Every metric.

        Raises:
            DatabaseUnavailable: nothing is told this time.
        """

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry would else collect at registration, when Postgres may not be up."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All or nothing."""
        try:
            found = list(self.read())
        except NightshiftError as error:
            log.warning("metrics_without_database", collector=type(self).__name__, reason=error.message)
            return
        yield from found
