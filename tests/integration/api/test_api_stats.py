"""``GET /v1/stats`` as a tenant sees it."""

from __future__ import annotations

from tenant_api import Api


def test_a_tenant_sees_sums_and_nobodys_name(api: Api, other: Api) -> None:
    body = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a", "b"], "metadata": {"secret": "of-the-other"}}
    accepted = other.post("/v1/jobs", json=body).json
    answer = api.get("/v1/stats")
    assert answer.status_code == 200, answer.text
    stats = answer.json
    assert (stats["object"], stats["window_s"]) == ("stats", 86_400)
    assert set(stats) == {"object", "window_s", "queues", "pools", "served", "alerts"}
    assert {pool["pool"]: pool["wanted_workers"] >= 0 for pool in stats["pools"]} == {"cpu": True, "gpu": True}
    assert accepted["id"] not in answer.text
    assert "of-the-other" not in answer.text
    assert "tenant" not in answer.text
