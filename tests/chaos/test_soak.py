"""Random kills under a mixed load; ``make soak MINUTES=10`` is the long form."""

from __future__ import annotations

import os

import pytest
from chaos_rig import ChaosRig
from soak import DRAINED_WITHIN_S, Soak

MINUTES = float(os.environ.get("NIGHTSHIFT_SOAK_MINUTES", "0"))
SHORT_S = 25.0
SEED = int(os.environ.get("NIGHTSHIFT_SOAK_SEED", "7"))


@pytest.mark.timeout(SHORT_S + MINUTES * 60 + DRAINED_WITHIN_S + 120)
def test_nothing_is_lost_or_doubled_whatever_is_killed(rig: ChaosRig) -> None:
    soak = Soak(rig, SEED, kills_servers=MINUTES > 0)
    soak.run(seconds=MINUTES * 60 or SHORT_S)
    print(
        f"\nseed {SEED}: {soak.killed.total()} kills {dict(soak.killed)},"
        f" {len(soak.jobs)} jobs checked, {soak.n_refused} requests failed"
    )
    assert soak.killed
    assert soak.jobs
