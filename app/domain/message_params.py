"""A request of the Messages API in the terms of the chat engines: an OpenAI chat completion request.

What an engine could not honour is refused rather than dropped, so that no answer looks like what it is not. Fields that
only steer how the vendor serves a request (caching, tiers, regions) change nothing about an answer and are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from app.domain.message_turns import system_turns, turns_of
from app.errors import InvalidRequest, MissingParameter


class ApiVersion(StrEnum):
    """Values of the header ``anthropic-version``."""

    FIRST = "2023-06-01"
    WITHOUT_SAMPLING = "2026-10-21"
    """Sampling is the model's business: ``temperature``, ``top_p`` and ``top_k`` are no parameters any more."""


Fields = dict[str, Any]
_SAMPLING = ("temperature", "top_p", "top_k")
_SERVING = frozenset(
    {"cache_control", "diagnostics", "inference_geo", "service_tier", "speed", "user_profile_id", "workspace_id"}
)
_REQUIRED = ("model", "max_tokens", "messages")
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_request(params: Any, *, version: ApiVersion) -> Fields:
    """Translate the parameters of one message.

    Raises:
        InvalidRequest, MissingParameter: ``param`` names what is wrong.
    """
    if not isinstance(params, dict):
        raise InvalidRequest("'params' must be a JSON object.", param="params")
    given = {name: value for name, value in params.items() if value is not None}
    _check_names(given, version)
    turns = [*system_turns(given.get("system")), *turns_of(given["messages"])]
    body: Fields = {"model": _model(given["model"]), "max_tokens": _max_tokens(given["max_tokens"]), "messages": turns}
    for name, translate in _OPTIONS.items():
        if name in given:
            body.update(translate(given[name]))
    if turns[-1]["role"] == "assistant":
        body.update(continue_final_message=True, add_generation_prompt=False)
    return body


def _check_names(given: Mapping[str, Any], version: ApiVersion) -> None:
    for name in _REQUIRED:
        if name not in given:
            raise MissingParameter(f"'{name}' is required.", param=name)
    if version is ApiVersion.WITHOUT_SAMPLING:
        for name in _SAMPLING:
            if name in given:
                raise InvalidRequest(f"'{name}' is no parameter of the version {version}; leave it out.", param=name)
    for name in given:
        if name not in _OPTIONS and name not in _SERVING and name not in _REQUIRED and name != "system":
            raise InvalidRequest(f"'{name[:80]}' is not supported here; leave it out.", param=name[:80])


def _model(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest("'model' must be a string.", param="model")
    return value


def _max_tokens(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequest("'max_tokens' must be a whole number of at least 1.", param="max_tokens")
    return value


def _share(name: str) -> Callable[[Any], Fields]:
    def translate(value: Any) -> Fields:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not 0 <= value <= 1:
            raise InvalidRequest(f"'{name}' must be a number from 0 to 1.", param=name)
        return {name: value}

    return translate


def _top_k(value: Any) -> Fields:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest("'top_k' must be a whole number of at least 0.", param="top_k")
    return {"top_k": value} if value else {}


def _stop_sequences(value: Any) -> Fields:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise InvalidRequest("'stop_sequences' must be a list of strings that are not empty.", param="stop_sequences")
    return {"stop": value} if value else {}


def _metadata(value: Any) -> Fields:
    user_id = value.get("user_id") if isinstance(value, dict) else False
    if not isinstance(user_id, str | None):
        raise InvalidRequest("'metadata' must be an object with the text 'user_id'.", param="metadata")
    return {} if user_id is None else {"user": user_id}


def _stream(value: Any) -> Fields:
    if value is not False:
        raise InvalidRequest("'stream' is not possible here; leave it out.", param="stream")
    return {}


def _container(value: Any) -> Fields:
    raise InvalidRequest(f"'container' is not supported here: {str(value)[:40]!r} cannot be reused.", param="container")


def _thinking(value: Any) -> Fields:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("adaptive", "disabled"):
        message = (
            "'thinking.type' must be 'adaptive' or 'disabled': these models decide themselves how much they think."
        )
        raise InvalidRequest(message, param="thinking.type")
    return {}


def _output_config(value: Any) -> Fields:
    if not isinstance(value, dict) or not value.keys() <= {"effort", "format"}:
        raise InvalidRequest("'output_config' must be an object of 'effort' and 'format'.", param="output_config")
    body: Fields = {}
    if value.get("effort") is not None:
        if not isinstance(value["effort"], str) or value["effort"] not in _EFFORTS:
            message = f"'output_config.effort' must be one of {', '.join(_EFFORTS)}."
            raise InvalidRequest(message, param="output_config.effort")
        body["reasoning_effort"] = _EFFORTS[value["effort"]]
    if value.get("format") is not None:
        body["response_format"] = _json_schema(value["format"])
    return body


def _json_schema(value: Any) -> Fields:
    schema = value.get("schema") if isinstance(value, dict) and value.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        message = "'output_config.format' must be of the type 'json_schema' and have a 'schema'."
        raise InvalidRequest(message, param="output_config.format")
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": schema, "strict": True}}


def _tools(value: Any) -> Fields:
    if not isinstance(value, list):
        raise InvalidRequest("'tools' must be a list.", param="tools")
    tools = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(value)]
    return {"tools": tools} if tools else {}


def _tool(tool: Any, where: str) -> Fields:
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequest(f"'{where}.name' must be a string.", param=f"{where}.name")
    if tool.get("type") not in (None, "custom"):
        message = f"'{where}' is a tool of the vendor's servers; only tools of your own, with an 'input_schema', work."
        raise InvalidRequest(message, param=f"{where}.type")
    if not isinstance(tool.get("input_schema"), dict):
        raise InvalidRequest(f"'{where}.input_schema' must be a JSON schema.", param=f"{where}.input_schema")
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _tool_choice(value: Any) -> Fields:
    kind = value.get("type") if isinstance(value, dict) else None
    body: Fields = {"parallel_tool_calls": False} if kind and value.get("disable_parallel_tool_use") is True else {}
    if kind == "tool" and isinstance(value.get("name"), str):
        return {**body, "tool_choice": {"type": "function", "function": {"name": value["name"]}}}
    if not isinstance(kind, str) or kind not in _CHOICES:
        message = "'tool_choice.type' must be 'auto', 'any', 'none', or 'tool' with the 'name' of one."
        raise InvalidRequest(message, param="tool_choice")
    return {**body, "tool_choice": _CHOICES[kind]}


_OPTIONS: dict[str, Callable[[Any], Fields]] = {
    "temperature": _share("temperature"),
    "top_p": _share("top_p"),
    "top_k": _top_k,
    "stop_sequences": _stop_sequences,
    "metadata": _metadata,
    "stream": _stream,
    "container": _container,
    "thinking": _thinking,
    "output_config": _output_config,
    "tools": _tools,
    "tool_choice": _tool_choice,
}
"""What each option adds to the request."""
