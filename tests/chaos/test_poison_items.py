"""One item kills or hangs real workers: it fails alone, its neighbours succeed, and the workers are back at work."""

from __future__ import annotations

import pytest
from chaos_rig import ChaosRig
from seeded_work import SeededItem, crashing, good, hanging

MOST_DEATHS = 5


@pytest.mark.parametrize("poison", [crashing("poison"), hanging("poison")], ids=["crash", "hang"])
def test_a_poison_among_hundreds_fails_alone_after_a_few_deaths(rig: ChaosRig, poison: SeededItem) -> None:
    items = [*(good(f"before-{n}") for n in range(200)), poison, *(good(f"after-{n}") for n in range(200))]
    job_id = rig.submit(items, item_timeout_s=0.5)
    rig.check(job_id, items)
    events = rig.sql("SELECT kind FROM events WHERE job_id = :id", id=job_id)
    assert sum(event["kind"] == "chunk_split" for event in events) <= MOST_DEATHS
    attempts = rig.sql("SELECT sum(attempt) AS n, count(*) AS n_chunks FROM chunks WHERE job_id = :id", id=job_id)[0]
    assert attempts["n"] - attempts["n_chunks"] <= 2 * MOST_DEATHS
    again = rig.submit([good("behind")])
    rig.check(again, [good("behind")])
