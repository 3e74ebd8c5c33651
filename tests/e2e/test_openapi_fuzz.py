"""Operations of ``/openapi.json`` keep their word under generated requests; no tenant reaches another's objects.

The same requests on every run. ``NIGHTSHIFT_TEST_EXAMPLES=500`` sends more of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import assume
from owned_objects import ITEM, MARK, VERSIONED, OwnedObjects, cleaned_up, make_objects, make_paused_job
from running_stack import RunningStack
from schemathesis.checks import load_all_checks

# Not ``schemathesis.pytest.from_fixture``, which needs an attribute of tests that pytest 9.2 does not have.
from schemathesis.pytest.lazy import get_all_tests

N_EXAMPLES = int(os.environ.get("NIGHTSHIFT_TEST_EXAMPLES", "4"))
_CONFIG = {
    "seed": 1,
    "generation": {"deterministic": True, "max-examples": N_EXAMPLES, "database": "none"},
    "checks": {
        # Whether the operation documents them is another check's business.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503", "504"]},
        # Much is refused that a schema cannot say: two inputs at once, a model that is not there, a wrong cron.
        "positive_data_acceptance": {"enabled": False},
    },
    "warnings": False,
}
_NOWHERE = "0" * 32
_BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("patch", "/v1/schedules/{schedule_id}"): {"name": "taken over"},
    ("patch", "/v1/jobs/{job_id}"): {"priority": "urgent"},
    ("post", "/v1/uploads/{upload_id}/complete"): {"part_ids": ["part_1"]},
    ("post", "/v1/webhook_endpoints/{endpoint_id}"): {"name": "taken over"},
    ("post", "/v1/webhook_endpoints/{endpoint_id}/test"): {"event_type": "job.held"},
}
_REFUSED = {400, 404, 405, 413, 422}

Check = Callable[[schemathesis.Case], None]


@pytest.fixture(scope="module")
def api(running_stack: RunningStack) -> Any:
    """The documented operations, with generators of requests."""
    running_stack.wait_until_ready()
    load_all_checks()
    config = schemathesis.Config.from_dict({**_CONFIG, "base-url": running_stack.url})
    return schemathesis.openapi.from_url(f"{running_stack.url}/openapi.json", config=config)


@pytest.fixture(scope="module")
def document(running_stack: RunningStack) -> dict[str, Any]:
    return dict(httpx.get(f"{running_stack.url}/openapi.json").json())


def _key(stack: RunningStack, tenant: str) -> str:
    """A key of a tenant that may send as much as a test has to ask."""
    key = stack.new_key(tenant)
    with stack.client(stack.admin_key) as admin:
        admin.patch(f"/v1/admin/tenants/{tenant}", json={"requests_per_minute": 1_000_000}).raise_for_status()
    return key


@pytest.fixture(scope="module")
def owner(running_stack: RunningStack) -> Iterator[httpx.Client]:
    with running_stack.client(_key(running_stack, "fuzz-owner")) as made, cleaned_up(made):
        made.headers.update(VERSIONED)
        yield made


@pytest.fixture(scope="module")
def stranger(running_stack: RunningStack) -> Iterator[httpx.Client]:
    with running_stack.client(_key(running_stack, "fuzz-stranger")) as made, cleaned_up(made):
        made.headers.update(VERSIONED)
        yield made


@pytest.fixture
def objects(running_stack: RunningStack, owner: httpx.Client) -> OwnedObjects:
    return make_objects(running_stack, owner)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


def _run(api: Any, check: Check, subtests: pytest.Subtests) -> None:
    """Call ``check`` with generated requests of every operation; what ends an object comes last."""
    found = [result.ok() for result in get_all_tests(schema=api, test_func=check, settings=None, given_kwargs={})]
    assert found
    for operation, test in sorted(found, key=lambda pair: _ends_an_object(*pair)):
        with subtests.test(operation.label):
            test()


def _ends_an_object(operation: schemathesis.APIOperation, _test: Any) -> bool:
    return operation.method == "delete" or operation.path.endswith("/cancel")


def _name_what_exists(case: schemathesis.Case, ids: dict[str, Iterator[str]]) -> None:
    case.path_parameters = {
        name: next(ids[name]) if name in ids else generated for name, generated in case.path_parameters.items()
    }


def _carries_echo_controls(case: schemathesis.Case) -> bool:
    """Whether a job made of the body could crash or hang a worker."""
    return '"echo":' in json.dumps(case.body, default=repr)


def _owned(document: dict[str, Any], objects: OwnedObjects) -> Iterator[tuple[str, str, str, str]]:
    """Method and path of every operation on an object, the parameter that names it, and every id of one."""
    for path, operations in document["paths"].items():
        for name, ids in objects.by_parameter.items():
            if f"{{{name}}}" in path:
                yield from ((method, path, name, own) for method in operations if method != "parameters" for own in ids)


def _send(client: httpx.Client, method: str, path: str, name: str, own: str) -> tuple[int, str]:
    """Status and body of an answer, without what differs from one request and one id to the next."""
    url = path.replace(f"{{{name}}}", own).replace("{custom_id}", ITEM)
    answer = client.request(method, url, json=_BODIES.get((method, path)))
    return answer.status_code, _plain(answer, own)


def _plain(answer: httpx.Response, own: str) -> str:
    text = answer.text.replace(answer.headers["x-request-id"], "")
    return text.replace(own, "").replace(own.partition("_")[2] or own, "")


def _unknown(own: str) -> str:
    """An id of the same kind that nothing has."""
    return own[:-32] + _NOWHERE


def _shown(owner: httpx.Client, objects: OwnedObjects) -> list[bytes]:
    paths = (
        f"/v1/jobs/{objects.job}",
        f"/v1/jobs/{objects.job}/results",
        f"/v1/batches/{objects.batch}",
        f"/v1/groups/{objects.group}",
        f"/v1/files/{objects.file}",
        f"/v1/files/{objects.file}/content",
        f"/v1/files/{objects.batch_input}",
        f"/v1/schedules/{objects.schedule}",
        f"/v1/schedules/{objects.schedule}/runs",
        f"/v1/webhook_endpoints/{objects.webhook_endpoint}",
        f"/v1/messages/batches/{objects.message_batch}",
        f"/v1/messages/batches/{objects.message_batch}/results",
    )
    return [owner.get(path).raise_for_status().content for path in paths]


@pytest.mark.timeout(600)
def test_every_answer_is_as_documented(
    api: Any, running_stack: RunningStack, owner: httpx.Client, session: requests.Session, subtests: pytest.Subtests
) -> None:
    def check(case: schemathesis.Case) -> None:
        assume(not _carries_echo_controls(case))
        is_admin = case.path.startswith("/v1/admin")
        key = f"Bearer {running_stack.admin_key}" if is_admin else owner.headers["Authorization"]
        case.call_and_validate(session=session, headers={"Authorization": key}, timeout=60)

    _run(api, check, subtests)


@pytest.mark.timeout(600)
def test_every_answer_about_what_exists_is_as_documented(
    api: Any, objects: OwnedObjects, owner: httpx.Client, session: requests.Session, subtests: pytest.Subtests
) -> None:
    live = make_paused_job(owner)
    ids = {**{name: cycle(own) for name, own in objects.by_parameter.items()}, "custom_id": cycle([ITEM])}
    ids["job_id"] = cycle([*objects.by_parameter["job_id"], live])
    key = {"Authorization": owner.headers["Authorization"]}

    def check(case: schemathesis.Case) -> None:
        assume(not _carries_echo_controls(case))
        _name_what_exists(case, ids)
        if case.path == "/v1/jobs/{job_id}/events":  # those of a live job would not end
            case.path_parameters = {"job_id": objects.job}
        case.call_and_validate(session=session, headers=key, timeout=60)

    _run(api.include(path_regex=r"\{\w+_id\}").exclude(path_regex="admin"), check, subtests)


def test_another_tenants_objects_are_as_good_as_absent(
    document: dict[str, Any], objects: OwnedObjects, owner: httpx.Client, stranger: httpx.Client
) -> None:
    before = _shown(owner, objects)
    for method, path, name, own in _owned(document, objects):
        status, said = _send(stranger, method, path, name, own)
        assert status == httpx.codes.NOT_FOUND, (method, path, own, said)
        assert (status, said) == _send(stranger, method, path, name, _unknown(own)), (method, path, own)
    assert _shown(owner, objects) == before


def test_every_parameter_that_names_an_object_is_tried(document: dict[str, Any], objects: OwnedObjects) -> None:
    named = {name[1:-1] for path in document["paths"] for name in path.split("/") if name.endswith("_id}")}
    assert named - objects.by_parameter.keys() == {"custom_id", "key_id"}


@pytest.mark.timeout(600)
def test_no_generated_request_reaches_another_tenants_objects(
    api: Any,
    objects: OwnedObjects,
    owner: httpx.Client,
    stranger: httpx.Client,
    session: requests.Session,
    subtests: pytest.Subtests,
) -> None:
    ids = {**{name: cycle(own) for name, own in objects.by_parameter.items()}, "custom_id": cycle([ITEM])}
    key = {"Authorization": stranger.headers["Authorization"]}
    before = _shown(owner, objects)

    def check(case: schemathesis.Case) -> None:
        _name_what_exists(case, ids)
        answer = case.call(session=session, headers=key, timeout=60)
        expected = _REFUSED if case.method != "OPTIONS" else {httpx.codes.OK}  # which says what a path takes, of any id
        assert answer.status_code in expected, (case.method, case.path, case.path_parameters, answer.text)
        assert MARK not in answer.text

    _run(api.include(path_regex=r"\{\w+_id\}").exclude(path_regex="admin"), check, subtests)
    assert _shown(owner, objects) == before


@pytest.mark.parametrize(
    ("path", "cursor"),
    [
        ("/v1/jobs", "after"),
        ("/v1/batches", "after"),
        ("/v1/files", "after"),
        ("/v1/schedules", "after"),
        ("/v1/webhook_endpoints", "after"),
        ("/v1/messages/batches", "after_id"),
        ("/v1/messages/batches", "before_id"),
    ],
)
def test_lists_neither_show_nor_continue_behind_another_tenants_objects(
    path: str, cursor: str, objects: OwnedObjects, stranger: httpx.Client
) -> None:
    assert MARK not in stranger.get(path).raise_for_status().text
    own = {"/v1/batches": objects.batch, "/v1/files": objects.file, "/v1/schedules": objects.schedule}
    own |= {"/v1/webhook_endpoints": objects.webhook_endpoint, "/v1/messages/batches": objects.message_batch}
    after = own.get(path, objects.job)
    seen, unknown = (stranger.get(path, params={cursor: each}) for each in (after, _unknown(after)))
    assert seen.status_code == httpx.codes.NOT_FOUND
    assert _plain(seen, after) == _plain(unknown, _unknown(after))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"endpoint": "/v1/echo", "model": "echo", "input_file_id": "FILE"}),
        ("/v1/batches", {"endpoint": "/v1/echo", "completion_window": "24h", "input_file_id": "FILE"}),
        (
            "/v1/schedules",
            {
                "name": "x",
                "cron": "0 0 29 2 *",
                "job": {"endpoint": "/v1/echo", "model": "echo"},
                "source": {"file_id": "FILE"},
            },
        ),
    ],
)
def test_another_tenants_file_is_no_input(
    path: str, body: dict[str, Any], objects: OwnedObjects, stranger: httpx.Client
) -> None:
    def post(file: str) -> httpx.Response:
        return stranger.post(path, json=json.loads(json.dumps(body).replace("FILE", file)))

    for file in (objects.file, objects.batch_input):
        refused, unknown = post(file), post(_unknown(file))
        assert refused.status_code == httpx.codes.BAD_REQUEST
        assert _plain(refused, file) == _plain(unknown, _unknown(file))


def test_every_documented_default_of_a_query_can_be_sent(document: dict[str, Any], owner: httpx.Client) -> None:
    for path, operations in document["paths"].items():
        parameters = operations.get("get", {}).get("parameters", [])
        defaults = {each["name"]: each["schema"].get("default") for each in parameters}
        query = {name: default for name, default in defaults.items() if default is not None}
        if query and not path.startswith("/v1/admin"):
            answer = owner.get(path.replace("{job_id}", f"job_{_NOWHERE}"), params=query)
            assert answer.status_code != httpx.codes.BAD_REQUEST, (path, answer.text)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"endpoint": "/v1/echo", "model": "echo", "input": "a text"}),
        ("/v1/embeddings", {"model": "all-MiniLM-L6-v2", "input": "a text"}),
    ],
)
def test_every_number_can_be_as_small_as_documented(
    path: str, body: dict[str, Any], document: dict[str, Any], owner: httpx.Client
) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    numbers = {name: each for name, each in schema["properties"].items() if each.get("type") in {"integer", "number"}}
    assert numbers
    for name, each in numbers.items():
        smallest = each["minimum"] + (0.001 if each.get("exclusiveMinimum") else 0)
        answer = owner.post(path, json={**body, name: smallest})
        assert answer.is_success, (name, answer.text)
