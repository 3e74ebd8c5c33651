"""See that the broker still has the topology, and declare it again where something of it is gone."""

from __future__ import annotations

import structlog

from app.broker.listeners import consumer_counts
from app.broker.management import ManagementApi
from app.services.apply_topology import apply_topology, supported_policy
from config.queues import POLICY_NAME, all_queues
from config.settings import Settings

log = structlog.get_logger(__name__)


def keep_topology(*, settings: Settings) -> bool:
    """Look once; whether something was missing, and is there again.

    Workers declare their own queues whenever they connect. Nobody else declares the dead-letter queue and the policy,
    without which a message that kills its worker comes back for ever.

    Raises:
        BrokerUnavailable: the broker does not answer, or refuses us the policy.
    """
    if settings.broker_is_redis:
        return False
    missing = _missing(settings)
    if missing:
        apply_topology(settings=settings)
        log.warning("topology_declared_again", missing=missing)
    return bool(missing)


def _missing(settings: Settings) -> list[str]:
    """Queues and the policy that are not as ``config/queues.py`` says."""
    names = [queue.name for queue in all_queues(settings.queues)]
    found = consumer_counts(settings, names)
    missing = [name for name in names if name not in found]
    if settings.broker_api_url:
        with ManagementApi.from_settings(settings) as api:
            wanted, _ = supported_policy(api.version())
            if api.policy(POLICY_NAME) != wanted:
                missing.append(f"policy {POLICY_NAME}")
    return missing
