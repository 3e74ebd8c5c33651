"""The conversation of a Messages API request, as the messages of an OpenAI chat completion request.

There a turn may hold results of tools beside text, and turns of one role in a row count as one; here each result is a
message of its own, and chat templates want roles to alternate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from app.errors import InvalidRequest

Turn = dict[str, Any]
"""One message of a chat completion request."""
Part = dict[str, Any]
"""One content part of such a message."""
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def system_turns(system: Any) -> list[Turn]:
    """The system prompt, where there is one.

    Raises:
        InvalidRequest: it is neither text nor blocks of text.
    """
    if system is None:
        return []
    parts = list(_parts(system, "system", _TEXT_ONLY))
    return [{"role": "system", "content": _content(parts)}] if parts else []


def turns_of(messages: Any) -> list[Turn]:
    """The conversation.

    Raises:
        InvalidRequest: ``param`` names the message, or the block of it, that is wrong.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list of at least one message.", param="messages")
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        for turn in _turns(message, f"messages[{place}]"):
            if turns and _may_join(turns[-1], turn):
                turns[-1] = {**turn, "content": _joined(turns[-1]["content"], turn["content"])}
            else:
                turns.append(turn)
    return turns


def _turns(message: Any, where: str) -> Iterator[Turn]:
    role = message.get("role") if isinstance(message, dict) else None
    if role == "assistant":
        yield _assistant(message.get("content"), f"{where}.content")
    elif role == "user":
        yield from _user(message.get("content"), f"{where}.content")
    elif role == "system":
        parts = _parts(message.get("content"), f"{where}.content", _TEXT_ONLY)
        yield {"role": "system", "content": _content(list(parts))}
    else:
        raise InvalidRequest(f"'{where}.role' must be 'user' or 'assistant'.", param=f"{where}.role")


def _user(content: Any, where: str) -> Iterator[Turn]:
    """Results of tools first, as the protocol wants them right behind the calls."""
    blocks = list(_blocks(content, where))
    for block, at in blocks:
        if block.get("type") == "tool_result":
            yield _tool_result(block, at)
    rest = [(block, at) for block, at in blocks if block.get("type") != "tool_result"]
    if rest or not blocks:
        yield {"role": "user", "content": _content([part for each in rest for part in _part(*each, _OF_USERS)])}


def _assistant(content: Any, where: str) -> Turn:
    parts: list[Part] = []
    calls: list[Turn] = []
    for block, at in _blocks(content, where):
        if block.get("type") == "tool_use":
            calls.append(_call(block, at))
        else:
            parts += _part(block, at, _OF_ASSISTANTS)
    turn: Turn = {"role": "assistant", "content": _content(parts) if parts or not calls else None}
    return {**turn, "tool_calls": calls} if calls else turn


def _call(block: Mapping[str, Any], where: str) -> Turn:
    given, name, arguments = block.get("id"), block.get("name"), block.get("input")
    if not isinstance(given, str) or not isinstance(name, str) or not isinstance(arguments, dict):
        raise InvalidRequest(f"'{where}' must have 'id', 'name' and the object 'input'.", param=where)
    return {"id": given, "type": "function", "function": {"name": name, "arguments": orjson.dumps(arguments).decode()}}


def _tool_result(block: Mapping[str, Any], where: str) -> Turn:
    call = block.get("tool_use_id")
    if not isinstance(call, str):
        raise InvalidRequest(f"'{where}.tool_use_id' must be a string.", param=f"{where}.tool_use_id")
    said = _content(list(_parts(block.get("content") or "", f"{where}.content", _TEXT_ONLY)))
    return {"role": "tool", "tool_call_id": call, "content": f"Error: {said}" if block.get("is_error") else said}


def _blocks(content: Any, where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each block, and where it stands; a string is one block of text."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, where
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"'{where}' must be a string or a list of content blocks.", param=where)
    for place, block in enumerate(content):
        if not isinstance(block, dict):
            raise InvalidRequest(f"'{where}[{place}]' must be a content block.", param=f"{where}[{place}]")
        yield block, f"{where}[{place}]"


def _parts(content: Any, where: str, readers: _Readers) -> Iterator[Part]:
    for block, at in _blocks(content, where):
        yield from _part(block, at, readers)


def _part(block: Mapping[str, Any], where: str, readers: _Readers) -> Iterator[Part]:
    kind = block.get("type")
    reader = readers.get(kind) if isinstance(kind, str) else None
    if reader is None:
        message = f"'{where}.type' must be one of {', '.join(readers)} here, not {str(kind)[:40]!r}."
        raise InvalidRequest(message, param=f"{where}.type")
    yield from reader(block, where)


def _text(block: Mapping[str, Any], where: str) -> Iterator[Part]:
    text = block.get("text")
    if not isinstance(text, str):
        raise InvalidRequest(f"'{where}.text' must be a string.", param=f"{where}.text")
    yield {"type": "text", "text": text}


def _image(block: Mapping[str, Any], where: str) -> Iterator[Part]:
    source = block.get("source")
    url = _image_url(source) if isinstance(source, dict) else None
    if url is None:
        message = f"'{where}.source' must be an image in base64 ({', '.join(_IMAGES)}) or a 'url'."
        raise InvalidRequest(message, param=f"{where}.source")
    yield {"type": "image_url", "image_url": {"url": url}}


def _image_url(source: Mapping[str, Any]) -> str | None:
    if source.get("type") == "url" and isinstance(source.get("url"), str):
        return str(source["url"])
    if source.get("type") == "base64" and source.get("media_type") in _IMAGES and isinstance(source.get("data"), str):
        return f"data:{source['media_type']};base64,{source['data']}"
    return None


def _document(block: Mapping[str, Any], where: str) -> Iterator[Part]:
    given = block.get("source")
    source: dict[str, Any] = given if isinstance(given, dict) else {}
    kind = source.get("type")
    if kind == "text":
        yield from _text({"text": source.get("data")}, f"{where}.source")
    elif kind == "content":
        yield from _parts(source.get("content"), f"{where}.source.content", _TEXT_ONLY)
    else:
        message = f"'{where}.source' must be of the type 'text' or 'content'; other documents are not read here."
        raise InvalidRequest(message, param=f"{where}.source")


def _nothing(_block: Mapping[str, Any], _where: str) -> Iterator[Part]:
    """What a model thought in an earlier turn is not shown to it again."""
    return iter(())


_Readers = Mapping[str, Callable[[Mapping[str, Any], str], Iterator[Part]]]
_TEXT_ONLY: _Readers = {"text": _text}
_OF_USERS: _Readers = {"text": _text, "image": _image, "document": _document}
_OF_ASSISTANTS: _Readers = {"text": _text, "thinking": _nothing, "redacted_thinking": _nothing}


def _content(parts: list[Part]) -> str | list[Part]:
    """Plain text where there is nothing else: many chat templates take no parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _may_join(before: Turn, turn: Turn) -> bool:
    alike = before["role"] == turn["role"] and turn["role"] in {"user", "assistant"}
    return alike and "tool_calls" not in before and "tool_calls" not in turn


def _joined(before: str | list[Part], after: str | list[Part]) -> str | list[Part]:
    parts = [[{"type": "text", "text": each}] if isinstance(each, str) else each for each in (before, after)]
    return _content(parts[0] + parts[1])
