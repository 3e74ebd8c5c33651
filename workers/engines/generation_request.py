"""The bodies of chat and completion requests, checked, and the bodies of their answers, in OpenAI's shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from app.domain.items import ItemErrorCode
from workers.engines.answer_stamp import answer_stamp
from workers.engines.base import BadItem, invalid

MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_PROMPTS = 128
MAX_TEMPERATURE = 2.0
COMPLETION_TOKENS = 16
"""Of a completion that says nothing about it, as in OpenAI's API; a chat's answer may be as long as the model says."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""Who speaks -> what templates call it."""
_CHECKED = frozenset(
    {"messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop"}
)
_IGNORED = frozenset(
    {
        "model",
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "parallel_tool_calls",
        "stream_options",
        "reasoning_effort",
        "verbosity",
    }
)
"""Hints that an answer may leave unheeded."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "stream": (False,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "moderation": (),
    "web_search_options": (),
}
"""What this engine cannot do, and the values that do not ask for it."""

Message = dict[str, str]
Prompt = str | list[int]
"""A text, or token ids of the model's own vocabulary, which are used as they are."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float
    """0: the likeliest one."""
    top_p: float
    top_k: int | None
    """None: of all."""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request whose every field is usable."""

    messages: Sequence[Message] | None
    """Of a chat; None: of a completion."""
    prompts: Sequence[Prompt]
    """Of a completion."""
    max_tokens: int | None
    """None: as the model says."""
    sampling: Sampling
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer."""

    text: str
    n_tokens: int
    """Tokens that came out, also those that end the answer and are not shown."""
    finish_reason: Literal["stop", "length"]
    stop_reason: str | None
    """The stop sequence that was met, if one was."""


def parse_chat_request(body: dict[str, Any], *, default: Sampling) -> GenerationRequest:
    """Check the body of a chat.

    Args:
        default: how a model samples where the request does not say.
    Raises:
        BadItem: naming the parameter and what it should hold.
    """
    _refuse_the_impossible(body)
    limit = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    return GenerationRequest(
        messages=_messages(_required(body, "messages", "give what was said so far")),
        prompts=(),
        max_tokens=_optional_integer(body, limit, at_least=1),
        sampling=_sampling(body, default),
        stop=_stops(body.get("stop")),
    )


def parse_completion_request(body: dict[str, Any], *, default: Sampling, vocabulary_size: int) -> GenerationRequest:
    """Check the body of a completion.

    Args:
        default: how a model samples where the request does not say.
        vocabulary_size: token ids run from 0 to one below it.
    Raises:
        BadItem: naming the parameter and what it should hold.
    """
    _refuse_the_impossible(body)
    max_tokens = _optional_integer(body, "max_tokens", at_least=1)
    return GenerationRequest(
        messages=None,
        prompts=_prompts(_required(body, "prompt", "give the text to continue"), vocabulary_size),
        max_tokens=COMPLETION_TOKENS if max_tokens is None else max_tokens,
        sampling=_sampling(body, default),
        stop=_stops(body.get("stop")),
    )


def generation_response(
    request: GenerationRequest, answers: Sequence[Generated], *, model: str, n_prompt_tokens: int
) -> bytes:
    """Serialise the answers, one for each prompt."""
    is_chat = request.messages is not None
    n_tokens = sum(answer.n_tokens for answer in answers)
    document = {
        **answer_stamp("chatcmpl" if is_chat else "cmpl"),
        "object": "chat.completion" if is_chat else "text_completion",
        "model": model,
        "choices": [_choice(index, answer, is_chat=is_chat) for index, answer in enumerate(answers)],
        "usage": {
            "prompt_tokens": n_prompt_tokens,
            "completion_tokens": n_tokens,
            "total_tokens": n_prompt_tokens + n_tokens,
        },
    }
    return orjson.dumps(document)


def _choice(index: int, answer: Generated, *, is_chat: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        "index": index,
        **({"message": message} if is_chat else {"text": answer.text}),
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
    }


def _refuse_the_impossible(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if name in _CHECKED or name in _IGNORED:
            continue
        if name not in _ONLY:
            raise invalid(f"'{name}' is no parameter of this request")
        if value is not None and value not in _ONLY[name]:
            raise invalid(f"'{name}' asks for something that this model's engine cannot do; leave it out")


def _required(body: dict[str, Any], name: str, advice: str) -> Any:
    value = body.get(name)
    if value is None:
        raise BadItem(ItemErrorCode.MISSING_REQUIRED_PARAMETER, f"'{name}' is missing: {advice}")
    return value


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise invalid("'messages' must be a list of at least one message")
    return [_message(message, f"messages.{place}") for place, message in enumerate(value)]


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise invalid(f"'{where}' must be an object with 'role' and 'content'")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid(f"'{where}.role' must be one of {', '.join(_ROLES)}")
    if value.get("tool_calls"):
        raise invalid(f"'{where}.tool_calls' asks for tools, which this model's engine does not have")
    return {"role": _ROLES[role], "content": _content(value.get("content"), f"{where}.content")}


def _content(value: Any, where: str) -> str:
    if isinstance(value, str):
        return _unicode(value, where)
    if not isinstance(value, list):
        raise invalid(f"'{where}' must be a string or a list of parts with text")
    return "".join(_part(part, where) for part in value)


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise invalid(f"'{where}' must hold parts of type 'text' only")
    return _unicode(part["text"], where)


def _unicode(text: str, where: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise invalid(f"'{where}' holds half of a surrogate pair, which is no text") from None
    return text


def _prompts(value: Any, vocabulary_size: int) -> list[Prompt]:
    several = value if isinstance(value, list) and value and isinstance(value[0], str | list) else [value]
    if len(several) > MAX_PROMPTS:
        raise invalid(f"'prompt' holds {len(several)} prompts, at most {MAX_PROMPTS} are allowed")
    return [_prompt(prompt, vocabulary_size) for prompt in several]


def _prompt(value: Any, vocabulary_size: int) -> Prompt:
    if isinstance(value, str) and value:
        return _unicode(value, "prompt")
    if not isinstance(value, list) or not value or not all(type(token_id) is int for token_id in value):
        raise invalid("'prompt' must be a text, a list of texts, token ids or a list of such lists, none of them empty")
    if not all(0 <= token_id < vocabulary_size for token_id in value):
        raise invalid(f"'prompt' holds a token id that is not one of this model's, 0 to {vocabulary_size - 1}")
    return value


def _sampling(body: dict[str, Any], default: Sampling) -> Sampling:
    top_k = _optional_integer(body, "top_k", at_least=-1)
    return Sampling(
        temperature=_number(body, "temperature", default.temperature, at_most=MAX_TEMPERATURE),
        top_p=_number(body, "top_p", default.top_p, at_most=1.0),
        top_k=default.top_k if top_k is None else top_k if top_k > 0 else None,
        seed=_optional_integer(body, "seed", at_least=-math.inf),
    )


def _number(body: dict[str, Any], name: str, default: float, *, at_most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= at_most:
        raise invalid(f"'{name}' must be a number from 0 to {at_most:g}")
    return float(value)


def _optional_integer(body: dict[str, Any], name: str, *, at_least: float) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        least = "" if at_least == -math.inf else f" of {at_least} or more"
        raise invalid(f"'{name}' must be a whole number{least}")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        raise invalid(f"'stop' must be a string or a list of at most {MAX_STOPS} strings")
    for stop in stops:
        if not isinstance(stop, str) or not 0 < len(stop) <= MAX_STOP_CHARS:
            raise invalid(f"'stop' must hold strings of 1 to {MAX_STOP_CHARS} characters")
    return tuple(_unicode(stop, "stop") for stop in stops)
