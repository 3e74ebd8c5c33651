"""Every route asks for a key, is documented, and every error has its line in the one table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from app import errors
from app.api.authentication import access_of
from app.api.blueprints import Access
from app.api.error_tables import KINDS
from app.factory import create_app
from app.schemas.batches import BatchRequestSchema
from app.schemas.completions import ChatCompletionRequestSchema, CompletionRequestSchema
from app.schemas.embeddings import EmbeddingsRequestSchema
from app.schemas.jobs import JobPatchSchema, JobRequestSchema
from app.schemas.message_batches import MessageBatchRequestSchema
from app.schemas.messages import MessageRequestSchema
from app.schemas.retries import RetryRequestSchema
from app.schemas.schedules import SchedulePatchSchema, ScheduleRequestSchema
from app.schemas.scores import ClassifyRequestSchema, RerankRequestSchema
from app.schemas.webhooks import (
    RotateSecretSchema,
    SampleRequestSchema,
    WebhookEndpointPatchSchema,
    WebhookEndpointRequestSchema,
)
from app.wiring import build_wiring
from config.settings import Settings

OPEN_ROUTES = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/<asset>"}
NOWHERE = Settings(
    database_url="postgresql+psycopg2://nobody:nothing@127.0.0.1:1/none",
    broker_url="amqp://nobody:nothing@127.0.0.1:1/none",
    redis_url="redis://127.0.0.1:1/0",
    s3_endpoint="http://127.0.0.1:1",
    s3_access_key="nobody",
    s3_secret_key="nothing",
    key_pepper="pepper",
    admin_key="administrator",
)


@pytest.fixture(scope="module")
def app() -> Flask:
    """The application over servers that do not exist: none is needed to make it."""
    return create_app(build_wiring(NOWHERE))


def _operations(app: Flask) -> Iterator[tuple[Rule, str]]:
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method


def _path(rule: Rule) -> str:
    return re.sub(r"<[^>]+>", "x", rule.rule)


def _is_anthropic(rule: Rule) -> bool:
    return rule.rule.startswith("/v1/messages")


def test_every_route_but_the_open_ones_refuses_a_request_without_a_key(app: Flask) -> None:
    client = app.test_client()
    for rule, method in _operations(app):
        if rule.rule in OPEN_ROUTES:
            continue
        response = client.open(_path(rule), method=method)
        assert response.status_code == 401, f"{method} {rule.rule} answered {response.status_code}"
        shown = ("type", "authentication_error") if _is_anthropic(rule) else ("code", "invalid_api_key")
        assert response.json["error"][shown[0]] == shown[1]
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_only_the_documented_routes_are_open(app: Flask) -> None:
    found = {rule.rule for rule, _ in _operations(app) if access_of(app, rule.endpoint) is Access.OPEN}
    assert found == OPEN_ROUTES


def test_the_administrators_routes_do_not_take_a_tenants_key(app: Flask) -> None:
    tenant_key = {"Authorization": "Bearer ns_0123456789abcdef_" + "0" * 64}
    admin_rules = [(rule, method) for rule, method in _operations(app) if rule.rule.startswith("/v1/admin")]
    assert admin_rules
    for rule, method in admin_rules:
        assert app.test_client().open(_path(rule), method=method, headers=tenant_key).status_code == 401


def test_every_route_is_in_the_openapi_document(app: Flask) -> None:
    paths = _document(app)["paths"]
    for rule, method in _operations(app):
        documented = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        assert method.lower() in paths.get(documented, {}), f"{method} {rule.rule} is not documented"


def test_every_operation_is_summarised_and_documents_its_errors_with_examples(app: Flask) -> None:
    for path, operations in _document(app)["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            where = f"{method} {path}"
            assert operation.get("summary"), f"{where} has no summary"
            if "<" in path or path in OPEN_ROUTES or path == "/docs/{asset}":
                continue
            for status in ("401", "529" if path.startswith("/v1/messages") else "503"):
                examples = operation["responses"][status]["content"]["application/json"]["examples"]
                assert examples, f"{where} shows no example of a {status}"


@pytest.mark.parametrize(
    ("method", "path", "schema"),
    [
        ("post", "/v1/jobs", JobRequestSchema),
        ("patch", "/v1/jobs/{job_id}", JobPatchSchema),
        ("post", "/v1/jobs/{job_id}/retry", RetryRequestSchema),
        ("post", "/v1/batches", BatchRequestSchema),
        ("post", "/v1/embeddings", EmbeddingsRequestSchema),
        ("post", "/v1/chat/completions", ChatCompletionRequestSchema),
        ("post", "/v1/completions", CompletionRequestSchema),
        ("post", "/v1/rerank", RerankRequestSchema),
        ("post", "/v1/classify", ClassifyRequestSchema),
        ("post", "/v1/messages", MessageRequestSchema),
        ("post", "/v1/messages/batches", MessageBatchRequestSchema),
        ("post", "/v1/schedules", ScheduleRequestSchema),
        ("patch", "/v1/schedules/{schedule_id}", SchedulePatchSchema),
        ("post", "/v1/webhook_endpoints", WebhookEndpointRequestSchema),
        ("post", "/v1/webhook_endpoints/{endpoint_id}", WebhookEndpointPatchSchema),
        ("post", "/v1/webhook_endpoints/{endpoint_id}/rotate_secret", RotateSecretSchema),
        ("post", "/v1/webhook_endpoints/{endpoint_id}/test", SampleRequestSchema),
    ],
)
def test_the_example_that_docs_offers_to_try_is_a_valid_request(
    app: Flask, method: str, path: str, schema: type[Schema]
) -> None:
    body = _document(app)["paths"][path][method]["requestBody"]["content"]["application/json"]
    assert schema().load(body["example"])


def test_the_document_says_which_routes_need_no_key(app: Flask) -> None:
    for path, operations in _document(app)["paths"].items():
        is_open = path.replace("{", "<").replace("}", ">") in OPEN_ROUTES
        for method, operation in operations.items():
            if method != "parameters":
                assert (operation.get("security") == []) == is_open, f"{method} {path}"


CREATES_NOTHING = re.compile(
    r"/(cancel|pause|resume|release|rollback|drain|undrain"
    r"|embeddings|chat/completions|completions|messages|rerank|classify"
    r"|webhook_endpoints/\{endpoint_id\}|webhook_endpoints/\{endpoint_id\}/test)$"
)


def test_every_route_that_creates_takes_an_idempotency_key(app: Flask) -> None:
    for path, operations in _document(app)["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            taken = {parameter.get("name") for parameter in operation.get("parameters", ())}
            creates = method == "post" and not CREATES_NOTHING.search(path)
            assert ("Idempotency-Key" in taken) == creates, f"{method} {path}"
            assert ("422" in operation["responses"]) == creates, f"{method} {path}"


COUNTED = re.compile(
    r"/v1/(jobs|batches|messages/batches|embeddings|chat/completions|completions|messages|rerank|classify"
    r"|webhook_endpoints(/\{endpoint_id\}(/test)?)?)$"
)


def test_submits_and_synchronous_requests_count_towards_the_tenants_requests_per_minute(app: Flask) -> None:
    for path, operations in _document(app)["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            refusals = operation["responses"].get("429", {}).get("content", {}).get("application/json", {})
            is_counted = "rate_limit_exceeded" in refusals.get("examples", {})
            assert is_counted == (method == "post" and COUNTED.search(path) is not None), f"{method} {path}"


def test_every_error_of_a_dialect_has_that_dialects_body(app: Flask) -> None:
    guarded = {path: each for path, each in _document(app)["paths"].items() if path.startswith("/v1/")}
    for path, operations in guarded.items():
        wanted = "AnthropicError" if path.startswith("/v1/messages") else "Error"
        for method, operation in operations.items():
            if method != "parameters":
                found = {_error_schema(answer) for status, answer in operation["responses"].items() if status >= "400"}
                assert found <= {wanted}, f"{method} {path}"


def _error_schema(answer: dict[str, Any]) -> str:
    reference: str = answer["content"]["application/json"]["schema"]["$ref"]
    return reference.rpartition("/")[2]


def test_every_reference_in_the_openapi_document_leads_somewhere(app: Flask) -> None:
    document = _document(app)
    for reference in set(_references(document)):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_error_class_has_its_own_line_in_the_table() -> None:
    ours = {error for error in _leaves(errors.NightshiftError) if error.__module__ == errors.__name__}
    assert ours <= set(KINDS)


def test_an_error_that_can_be_retried_is_no_client_error_but_429() -> None:
    for error, kind in KINDS.items():
        if error.retryable:
            assert kind.status == 429 or kind.status >= 500, error


def _document(app: Flask) -> dict[str, Any]:
    document: dict[str, Any] = app.test_client().get("/openapi.json").json
    return document


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _leaves(error: type[errors.NightshiftError]) -> Iterator[type[errors.NightshiftError]]:
    for child in error.__subclasses__():
        yield child
        yield from _leaves(child)
