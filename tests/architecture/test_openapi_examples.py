"""``/openapi.json`` is valid, and shows with every route what is sent and what comes back, as its own schemas say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from test_routes import NOWHERE

from app.factory import create_app
from app.wiring import build_wiring

SHOWS_ITSELF = {"/docs", "/docs/{asset}", "/openapi.json"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document, as a client gets it."""
    answer = create_app(build_wiring(NOWHERE)).test_client().get("/openapi.json")
    return dict(answer.json)


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()


def test_every_part_of_a_path_is_a_documented_parameter(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        shared = operations.get("parameters", [])
        for operation in (each for method, each in operations.items() if method != "parameters"):
            taken = [*shared, *operation.get("parameters", [])]
            named = {each["name"] for each in taken if each["in"] == "path" and each["required"]}
            assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_every_route_shows_what_is_sent_and_what_comes_back(document: dict[str, Any]) -> None:
    """An example is given at the view (``example=``) or for the schema in ``app/api/examples.py``."""
    bare = [where for where, media in _media(document) if not list(_examples(media))]
    assert bare == []


def test_every_example_is_as_its_schema_says(document: dict[str, Any]) -> None:
    components = _as_json_schema(document["components"])
    for where, media in _media(document):
        validator = jsonschema_rs.Draft202012Validator({**_as_json_schema(media["schema"]), "components": components})
        for example in _examples(media):
            assert [f"{where}: {error}" for error in validator.iter_errors(example)] == []


def _media(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body that is taken or, with success, given, and where."""
    for path, operations in document["paths"].items():
        if path in SHOWS_ITSELF:
            continue
        for method, operation in operations.items():
            if method == "parameters":
                continue
            answers = [answer for status, answer in operation["responses"].items() if status < "300"]
            for body in (operation.get("requestBody", {}), *answers):
                yield from ((f"{method} {path}", media) for media in body.get("content", {}).values())


def _examples(media: dict[str, Any]) -> Iterator[Any]:
    if "example" in media:
        yield media["example"]
    yield from (each["value"] for each in media.get("examples", {}).values())


def _as_json_schema(value: Any) -> Any:
    """OpenAPI 3.0's dialect as JSON Schema: null and exclusive bounds are said in another way there."""
    if isinstance(value, list):
        return [_as_json_schema(each) for each in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _as_json_schema(each) for name, each in value.items() if name != "nullable"}
    if value.get("exclusiveMinimum") is True:
        plain["exclusiveMinimum"] = plain.pop("minimum")
    return {"anyOf": [plain, {"type": "null"}]} if value.get("nullable") is True else plain
