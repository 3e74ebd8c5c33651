"""The bodies of rerank and classify requests, checked, and the bodies of their answers.

Rankings have the shape on which vLLM and infinity agree; classes that of vLLM, with infinity's list of labels and
scores beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.domain.items import ItemErrorCode
from workers.engines.answer_stamp import answer_stamp
from workers.engines.base import BadItem, invalid, required_input

MAX_TEXTS = 2048
"""Documents or texts in one request at most."""
_SHARED = frozenset({"model", "user", "raw_scores", "truncate"})
_OF_RERANK = _SHARED | {"query", "documents", "top_n", "return_documents"}
_OF_CLASSIFY = _SHARED | {"input"}


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """A request whose every field is usable."""

    query: str
    documents: Sequence[str]
    top_n: int
    """As many are shown; all where there are fewer."""
    with_documents: bool
    raw_scores: bool
    truncate: bool


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """A request whose every field is usable."""

    texts: Sequence[str]
    raw_scores: bool
    truncate: bool


def parse_rerank_request(body: dict[str, Any]) -> RerankRequest:
    """Check a request body.

    Raises:
        BadItem: naming the parameter and what it should hold.
    """
    _refuse_strangers(body, _OF_RERANK, "a rerank request")
    documents = _texts(_required(body, "documents"), "documents", may_be_objects=True)
    return RerankRequest(
        query=_text(_required(body, "query"), "query"),
        documents=documents,
        top_n=_top_n(body.get("top_n")) or len(documents),
        with_documents=_flag(body, "return_documents", default=True),
        raw_scores=_flag(body, "raw_scores", default=False),
        truncate=_flag(body, "truncate", default=False),
    )


def parse_classify_request(body: dict[str, Any]) -> ClassifyRequest:
    """Check a request body.

    Raises:
        BadItem: naming the parameter and what it should hold.
    """
    _refuse_strangers(body, _OF_CLASSIFY, "a classify request")
    value = required_input(body)
    return ClassifyRequest(
        texts=[_text(value, "input")] if isinstance(value, str) else _texts(value, "input"),
        raw_scores=_flag(body, "raw_scores", default=False),
        truncate=_flag(body, "truncate", default=False),
    )


def rerank_response(request: RerankRequest, scores: Sequence[float], *, model: str, n_tokens: int) -> bytes:
    """Serialise a ranking, the best first.

    Args:
        scores: one for each document.
    """
    order = sorted(range(len(scores)), key=lambda place: scores[place], reverse=True)
    document = {
        **answer_stamp("rerank"),
        "object": "rerank",
        "model": model,
        "results": [_ranked(request, place, scores[place]) for place in order[: request.top_n]],
        "usage": _usage(n_tokens),
    }
    return orjson.dumps(document)


def classify_response(scores: Sequence[Sequence[float]], labels: Sequence[str], *, model: str, n_tokens: int) -> bytes:
    """Serialise the classes of texts.

    Args:
        scores: of each text one for each label.
    """
    document = {
        **answer_stamp("classify"),
        "object": "list",
        "model": model,
        "data": [_classified(index, of_text, labels) for index, of_text in enumerate(scores)],
        "usage": _usage(n_tokens),
    }
    return orjson.dumps(document)


def _ranked(request: RerankRequest, place: int, score: float) -> dict[str, Any]:
    shown = {"document": {"text": request.documents[place]}} if request.with_documents else {}
    return {"index": place, "relevance_score": score, **shown}


def _classified(index: int, scores: Sequence[float], labels: Sequence[str]) -> dict[str, Any]:
    order = sorted(range(len(labels)), key=lambda place: scores[place], reverse=True)
    return {
        "index": index,
        "label": labels[order[0]],
        "probs": scores,
        "num_classes": len(labels),
        "scores": [{"label": labels[place], "score": scores[place]} for place in order],
    }


def _usage(n_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": n_tokens, "total_tokens": n_tokens}


def _refuse_strangers(body: dict[str, Any], known: frozenset[str], what: str) -> None:
    unknown = sorted(map(str, body.keys() - known))
    if unknown:
        raise invalid(f"'{unknown[0]}' is no parameter of {what}")


def _required(body: dict[str, Any], name: str) -> Any:
    value = body.get(name)
    if value is None:
        raise BadItem(ItemErrorCode.MISSING_REQUIRED_PARAMETER, f"'{name}' is missing")
    return value


def _texts(value: Any, name: str, *, may_be_objects: bool = False) -> list[str]:
    if not isinstance(value, list) or not value:
        raise invalid(f"'{name}' must be a list of at least one text")
    if len(value) > MAX_TEXTS:
        raise invalid(f"'{name}' holds {len(value)} texts, at most {MAX_TEXTS} are allowed")
    if may_be_objects:
        value = [text.get("text") if isinstance(text, dict) else text for text in value]
    return [_text(text, name) for text in value]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise invalid(f"'{name}' must hold texts, none of them empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(f"'{name}' holds half of a surrogate pair, which is no text") from None
    return value


def _top_n(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise invalid("'top_n' must be a whole number of 0 or more")
    return value


def _flag(body: dict[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise invalid(f"'{name}' must be true or false")
    return value
