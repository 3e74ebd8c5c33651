"""Requests become frozen dataclasses, or an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from app.api.request_parser import parse_json
from app.domain.jobs import Dialect, OnDeadline, Priority
from app.errors import InvalidJson, InvalidRequest, MissingParameter, UnknownParameter
from app.schemas.batches import BatchRequestSchema
from app.schemas.jobs import JobRequestSchema
from app.schemas.problems import refusal_of
from app.schemas.schedules import SchedulePatchSchema


def _refusal(schema: type[Any], body: Any) -> InvalidRequest:
    try:
        schema().load(body)
    except ValidationError as error:
        return refusal_of(error)
    except InvalidRequest as error:
        return error
    raise AssertionError("was accepted")


def test_a_native_job_takes_its_defaults() -> None:
    job = JobRequestSchema().load({"endpoint": "/v1/echo", "inputs": ["a", {"custom_id": "b", "body": {}}]})
    assert job.dialect is Dialect.NATIVE
    assert job.inputs == ("a", {"custom_id": "b", "body": {}})
    assert (job.priority, job.on_deadline, job.completion_window) == (Priority.STANDARD, OnDeadline.EXPIRE, "24h")
    assert job.metadata == {}


def test_one_input_is_inputs_of_one() -> None:
    assert JobRequestSchema().load({"endpoint": "/v1/echo", "input": "a"}).inputs == ("a",)
    request_body = {"input": "a", "custom_id": "part of the body"}
    assert JobRequestSchema().load({"endpoint": "/v1/echo", "input": request_body}).inputs == ({"body": request_body},)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"inputs": "a"}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": ["a", 1]}, "inputs[1]"),
        ({"inputs": [None]}, "inputs[0]"),
        ({"inputs": [{"body": "x"}]}, "inputs[0].body"),
        ({"inputs": [{"custom_id": "", "body": {}}]}, "inputs[0].custom_id"),
        ({"inputs": [{"custom_id": 7, "body": {}}]}, "inputs[0].custom_id"),
        ({"inputs": [{"custom_id": "\0", "body": {}}]}, "inputs[0].custom_id"),
        ({"inputs": [{"custom_id": "x" * 513, "body": {}}]}, "inputs[0].custom_id"),
        ({"inputs": ["z", {"custom_id": "a", "body": {}}, {"custom_id": "a", "body": {}}]}, "inputs[2].custom_id"),
        ({"endpoint": 1}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"model": ["echo"]}, "model"),
        ({"priority": "now"}, "priority"),
        ({"priority": {}}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 11}, "max_attempts"),
        ({"max_attempts": "3"}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": 2.5}, "max_attempts"),
        ({"item_timeout_s": "5"}, "item_timeout_s"),
        ({"item_timeout_s": 0}, "item_timeout_s"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"a": {"b": "\0"}}}, "parameters"),
        ({"parameters": {"a": "x" * 70_000}}, "parameters"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 64),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": "\0"}}, "metadata.k"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"output_expires_after": 5}, "output_expires_after"),
        ({"input": "b"}, "inputs"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(change: dict[str, Any], param: str) -> None:
    refusal = _refusal(JobRequestSchema, {"endpoint": "/v1/echo", "inputs": ["a"], **change})
    assert refusal.reported_code == "invalid_value"
    assert refusal.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"inputs": ["a"]}, "endpoint"),
        ({"endpoint": "/v1/echo"}, "inputs"),
        ({"endpoint": "/v1/echo", "inputs": [{"custom_id": "a"}]}, "inputs[0].body"),
    ],
)
def test_a_missing_value_is_named(body: dict[str, Any], param: str) -> None:
    refusal = _refusal(JobRequestSchema, body)
    assert isinstance(refusal, MissingParameter)
    assert refusal.param == param


@pytest.mark.parametrize(
    ("change", "param"),
    [({"prioritty": "urgent"}, "prioritty"), ({"inputs": [{"body": {}, "id": "a"}]}, "inputs[0].id")],
)
def test_an_unknown_field_is_named(change: dict[str, Any], param: str) -> None:
    refusal = _refusal(JobRequestSchema, {"endpoint": "/v1/echo", "inputs": ["a"], **change})
    assert isinstance(refusal, UnknownParameter)
    assert refusal.param == param


@pytest.mark.parametrize("body", [[], "a", 1, None])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert _refusal(JobRequestSchema, body).reported_code == "invalid_value"


BATCH = {"input_file_id": "file-1", "endpoint": "/v1/echo", "completion_window": "24h"}


def test_a_batch_may_carry_native_fields() -> None:
    sent = {
        **BATCH,
        "metadata": None,
        "output_expires_after": {"anchor": "created_at", "seconds": 3600},
        "nightshift": {"priority": "urgent", "max_attempts": 1},
    }
    job = BatchRequestSchema().load(sent)
    assert (job.dialect, job.priority, job.max_attempts) == (Dialect.OPENAI, Priority.URGENT, 1)
    assert (job.output_expires_after_s, job.metadata, job.inputs) == (3600, {}, None)


@pytest.mark.parametrize("field", sorted(BATCH))
def test_a_batch_needs_its_three_fields(field: str) -> None:
    refusal = _refusal(BatchRequestSchema, {name: value for name, value in BATCH.items() if name != field})
    assert (refusal.reported_code, refusal.param) == ("missing_required_parameter", field)


def test_a_wrong_native_field_of_a_batch_is_named_with_its_path() -> None:
    assert _refusal(BatchRequestSchema, {**BATCH, "nightshift": {"priority": 1}}).param == "nightshift.priority"
    assert _refusal(BatchRequestSchema, {**BATCH, "nightshift": {"x": 1}}).param == "nightshift.x"
    refusal = _refusal(BatchRequestSchema, {**BATCH, "output_expires_after": {"anchor": "x", "seconds": 3600}})
    assert refusal.param == "output_expires_after.anchor"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b"\xef\xbb\xbf{",
        b"[" * 100_000,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b"1" * 5_000 + b"x",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse_json(body)


def test_json_nested_within_reason_is_taken() -> None:
    parse_json(b"[" * 200 + b"]" * 200)


@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_a_switch_is_true_or_false_and_nothing_like_it(value: Any) -> None:
    assert _refusal(SchedulePatchSchema, {"enabled": value}).param == "enabled"
