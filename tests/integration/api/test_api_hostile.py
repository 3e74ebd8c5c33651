"""Whatever comes in over HTTP is answered with our error body, never with a 5xx, as ``docs/design/input.md`` says."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenant_api import Api
from werkzeug.test import TestResponse

LISTS = {
    "/v1/jobs": ("limit", "after", "state", "endpoint", "model", "created_after", "created_before", "metadata[a]"),
    "/v1/files": ("limit", "after", "order", "purpose"),
    "/v1/batches": ("limit", "after"),
    "/v1/schedules": ("limit", "after"),
}
ODD = (
    "",
    "0",
    "-1",
    "1e400",
    "9" * 30,
    "NaN",
    "null",
    "\x00",
    "\ud800",
    "'; DROP TABLE jobs; --",
    "../../etc/passwd",
    "%",
    "x" * 3000,
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "job_" + "0" * 32,
    "batch_" + "f" * 32,
    "file-" + "0" * 32,
)
PROBES = [(path, name) for path, names in LISTS.items() for name in names]


def _is_ours(answer: TestResponse) -> bool:
    return answer.status_code < 500 and (answer.status_code < 400 or bool(answer.json["error"]["code"]))


def _query(name: str, value: str) -> str:
    return urlencode({name: value}, errors="surrogatepass")


@pytest.mark.parametrize(("path", "name"), PROBES, ids=lambda value: value)
def test_no_value_of_a_parameter_breaks_a_list(api: Api, path: str, name: str) -> None:
    for value in ODD:
        answer = api.get(f"{path}?{_query(name, value)}")
        assert _is_ours(answer), (value, answer.status_code)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(probe=st.sampled_from(PROBES), name=st.none() | st.text(max_size=20), value=st.text(max_size=60))
def test_no_text_at_all_breaks_a_list(api: Api, probe: tuple[str, str], name: str | None, value: str) -> None:
    path, known = probe
    answer = api.get(f"{path}?{_query(known if name is None else name, value)}")
    assert _is_ours(answer), answer.status_code


@pytest.mark.parametrize("prefix", ["/v1/jobs/", "/v1/files/", "/v1/batches/", "/v1/schedules/", "/v1/models/"])
@pytest.mark.parametrize("suffix", ["", "/results", "/results/x", "/manifest", "/content", "/runs", "/cancel"])
def test_no_id_breaks_a_route(api: Api, prefix: str, suffix: str) -> None:
    for value in ODD:
        shown = quote(value, safe="", errors="surrogatepass") or "%20"
        for method in ("GET", "POST", "DELETE"):
            answer = api.call(method, f"{prefix}{shown}{suffix}")
            assert _is_ours(answer), (method, value, answer.status_code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"input": NaN}', "invalid_json"),
        (b'{"input": 1e999}', "invalid_json"),
        (b'{"input": ' + b"9" * 100_000 + b"}", "invalid_json"),
        (b'{"input": "\\ud800"}', "invalid_json"),
        (b"\xff{}", "invalid_json"),
        (b'{"input":' * 300 + b"1" + b"}" * 300, "invalid_json"),
        (b"[" * 1_000_000, "invalid_json"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(api: Api, body: bytes, code: str) -> None:
    answer = api.post("/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, answer.json["error"]["code"]) == (400, code)


def test_no_depth_of_an_item_breaks_a_submit(api: Api) -> None:
    for depth in (60, 99, 101, *range(248, 258)):
        body = b'{"endpoint": "/v1/echo", "model": "echo", "input": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
        answer = api.post("/v1/jobs", data=body, content_type="application/json")
        assert answer.status_code in {202, 400}, depth


def test_a_compressed_body_is_refused(api: Api) -> None:
    answer = api.post("/v1/jobs", data=b"{}", content_type="application/json", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "Content-Encoding")


def test_of_a_field_that_stands_twice_the_last_counts(api: Api) -> None:
    body = b'{"endpoint": "/v1/none", "model": "echo", "input": "x", "endpoint": "/v1/echo"}'
    answer = api.post("/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, answer.json["endpoint"]) == (202, "/v1/echo")


@pytest.mark.parametrize("field", ["input", "metadata", "parameters", "inputs", "webhook"])
@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 1.5, 2**63, 1e300, "", "\x00", "../x", [], [[]], {}, {"a": {"b": [None]}}, {"\x00": "\x00"}],
    ids=repr,
)
def test_no_value_of_a_field_breaks_a_submit(api: Api, field: str, value: object) -> None:
    body = {"endpoint": "/v1/echo", "model": "echo", **({} if field == "inputs" else {"input": "x"}), field: value}
    answer = api.post("/v1/jobs", data=orjson.dumps(body), content_type="application/json")
    assert _is_ours(answer), answer.status_code
