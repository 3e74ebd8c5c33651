"""One item kills or hangs real workers: it fails alone, its neighbours succeed, and the workers are back at work."""

from __future__ import annotations

import pytest
from chaos_rig import ChaosRig
from seeded_work import SeededItem, crashing, good, hanging

MOST_DEATHS = 5


# A process that is dying on a busy machine is silent for a while too: only the item that hangs is timed.
@pytest.mark.parametrize(
    ("poison", "item_timeout_s"), [(crashing("poison"), None), (hanging("poison"), 0.5)], ids=["crash", "hang"]
)
def test_a_poison_among_hundreds_fails_alone_after_a_few_deaths(
    rig: ChaosRig, poison: SeededItem, item_timeout_s: float | None
) -> None:
    items = [*(good(f"before-{n}") for n in range(200)), poison, *(good(f"after-{n}") for n in range(200))]
    job_id = rig.submit(items, item_timeout_s=item_timeout_s)
    rig.check(job_id, items)
    events = rig.sql("SELECT kind FROM events WHERE job_id = :id", id=job_id)
    assert sum(event["kind"] == "chunk_split" for event in events) <= MOST_DEATHS
    attempts = rig.sql("SELECT sum(attempt) AS n, count(*) AS n_chunks FROM chunks WHERE job_id = :id", id=job_id)[0]
    assert attempts["n"] - attempts["n_chunks"] <= 2 * MOST_DEATHS
    again = rig.submit([good("behind")])
    rig.check(again, [good("behind")])
