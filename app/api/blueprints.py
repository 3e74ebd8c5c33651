"""flask-smorest's blueprint, which also says who may use it and how it can refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from flask import current_app
from flask_smorest import Blueprint
from marshmallow import Schema

from app import errors
from app.api.error_tables import kind_of
from app.api.examples import EXAMPLES, add_examples
from app.api.idempotency import PARAMETER_DOC, REPLAYED, REPLAYED_DOC, answers_once
from app.api.request_parser import RequestParser
from app.domain.idempotency import Answer

View = TypeVar("View", bound=Callable[..., Any])


class Access(Enum):
    """Which key a route asks for."""

    TENANT = "tenant"  # a tenant's API key; the default
    ADMIN = "admin"  # the administrator's key
    OPEN = "open"  # none


@dataclass(frozen=True, slots=True)
class Shown:
    """How something created is shown."""

    schema: type[Schema]
    location: str | None = None
    """Where it is shown from then on, with ``{id}`` in it."""


_ALWAYS: dict[Access, tuple[type[errors.NightshiftError], ...]] = {
    Access.TENANT: (errors.NotAuthenticated, errors.DatabaseUnavailable),
    Access.ADMIN: (errors.NotAuthenticated, errors.NotPermitted, errors.DatabaseUnavailable),
    Access.OPEN: (),
}
EXAMPLE_REQUEST_ID = "req_0123456789abcdef01234567"
_LOCATION_DOC = {"description": "Where it is shown", "schema": {"type": "string"}}
_OF_A_BODY = (
    errors.InvalidJson,
    errors.InvalidRequest,
    errors.MissingParameter,
    errors.UnknownParameter,
    errors.RequestTooLarge,
)
_OF_A_KEY = (errors.InvalidRequest, errors.IdempotencyKeyReused, errors.IdempotencyKeyInUse)
_OF_A_QUERY = (errors.InvalidRequest, errors.UnknownParameter)


class ApiBlueprint(Blueprint):  # type: ignore[misc]  # flask-smorest ships no types
    """Routes that share a subject and a kind of key."""

    if TYPE_CHECKING:
        # flask-smorest's decorators; ``arguments`` hands the loaded input to the view as its first argument.
        def route(self, rule: str, *, methods: Sequence[str]) -> Callable[[View], View]:
            """Serve a path."""
            ...

        def arguments(
            self,
            schema: type[Schema],
            *,
            location: str = "json",
            example: dict[str, Any] | None = None,
            required: bool = True,
        ) -> Callable[[View], View]:
            """Load the body or the query."""
            ...

        def response(self, status: int, schema: Any = None, **documentation: Any) -> Callable[[View], View]:
            """Dump what the view returns."""
            ...

        def alt_response(self, status: int, **documentation: Any) -> Callable[[View], View]:
            """Document another answer."""
            ...

        @staticmethod
        def doc(**documentation: Any) -> Callable[[View], View]:
            """Document by hand."""
            ...

    ARGUMENTS_PARSER = RequestParser()

    error_schema = "Error"
    """The body of every error, by its name in the documentation."""
    always: tuple[type[errors.NightshiftError], ...] = ()
    """How every route can refuse, beside its key and the database."""

    def __init__(self, name: str, *, access: Access = Access.TENANT, description: str, **kwargs: Any) -> None:
        super().__init__(name, __name__, description=description, **kwargs)
        self.access = access
        self._prepare_doc_cbks += [self._prepare_refusals_doc, self._prepare_examples_doc]

    @staticmethod
    def refuses(*refusals: type[errors.NightshiftError]) -> Callable[[View], View]:
        """Document the errors that a view answers with, beside those of its key, body and query."""

        def decorate(view: View) -> View:
            notes = {**deepcopy(getattr(view, "_apidoc", {})), "refusals": refusals}
            setattr(view, "_apidoc", notes)  # noqa: B010 - where flask-smorest keeps its notes
            return view

        return decorate

    @staticmethod
    def rate_limited(view: View) -> View:
        """Count the requests of a view towards its tenant's requests per minute."""
        notes = {**deepcopy(getattr(view, "_apidoc", {})), "rate_limited": True}
        setattr(view, "_apidoc", notes)  # noqa: B010 - where flask-smorest keeps its notes
        return view

    def creates(
        self, status: int, schema: type[Schema], *, location: str | None = None, streamed: bool = False
    ) -> Callable[[View], View]:
        """Dump what the view creates, once per ``Idempotency-Key``; the view is called with ``once``.

        Args:
            location: where the created object is shown, with ``{id}`` in it.
            streamed: see ``answers_once``.
        """
        return self._creating(
            status, schema, lambda _created: Shown(schema, location), located=location is not None, streamed=streamed
        )

    def creates_one_of(self, status: int, shown: Mapping[type, Shown]) -> Callable[[View], View]:
        """As ``creates``, where what is created decides how it is shown.

        Args:
            shown: by the type of what the view returns; each schema must be the answer of another route as well.
        """
        names = [kind.schema.__name__.removesuffix("Schema") for kind in shown.values()]
        documented = {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
        examples = {name: {"value": EXAMPLES[kind.schema]} for name, kind in zip(names, shown.values(), strict=True)}
        return self._creating(status, documented, lambda created: shown[type(created)], located=True, examples=examples)

    def _creating(
        self,
        status: int,
        documented: Any,
        shown_as: Callable[[Any], Shown],
        *,
        located: bool,
        streamed: bool = False,
        examples: dict[str, Any] | None = None,
    ) -> Callable[[View], View]:
        header_docs = {REPLAYED: REPLAYED_DOC, **({"Location": _LOCATION_DOC} if located else {})}

        def render(created: Any) -> Answer:
            how = shown_as(created)
            shown = how.schema().dump(created)
            headers = {"Location": how.location.format(id=shown["id"])} if how.location else {}
            return Answer(status, headers, current_app.json.dumps(shown).encode())

        def decorate(view: View) -> View:
            answering = self.response(status, documented, headers=header_docs, examples=examples)(
                answers_once(view, render, streamed=streamed)
            )
            getattr(answering, "_apidoc")["creates"] = True  # noqa: B009 - where flask-smorest keeps its notes
            return answering  # type: ignore[return-value]

        return decorate

    def _prepare_refusals_doc(self, doc: dict[str, Any], doc_info: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Write every error that an operation can answer with into its documentation."""
        creates = doc_info.get("creates", False)
        of_key = _OF_A_KEY if creates else ()
        of_rate = (errors.RateLimited,) if doc_info.get("rate_limited") else ()
        own = doc_info.get("refusals", ())
        refusals = dict.fromkeys([*_ALWAYS[self.access], *self.always, *_of_input(doc), *of_key, *of_rate, *own])
        if creates:
            doc.setdefault("parameters", []).append(PARAMETER_DOC)
        by_status: dict[int, list[type[errors.NightshiftError]]] = {}
        for refusal in refusals:
            by_status.setdefault(self.error_status(refusal), []).append(refusal)
        responses = doc.setdefault("responses", {})
        if self.access is Access.OPEN:
            doc["security"] = []
        for status in [status for status in responses if str(status).isdigit() and int(status) == 400]:
            del responses[status]  # what flask-smorest writes for every body; ours says more
        responses.update({str(status): self._error_response(kinds) for status, kinds in sorted(by_status.items())})
        return doc

    def _error_response(self, refusals: list[type[errors.NightshiftError]]) -> dict[str, Any]:
        examples = {refusal.code: {"value": self.error_example(refusal)} for refusal in refusals}
        schema = {"$ref": f"#/components/schemas/{self.error_schema}"}
        return {
            "description": " ".join(dict.fromkeys(first_line(refusal) for refusal in refusals)),
            "content": {"application/json": {"schema": schema, "examples": examples}},
        }

    def error_status(self, refusal: type[errors.NightshiftError]) -> int:
        """What HTTP says."""
        return int(kind_of(refusal).status)

    def error_example(self, refusal: type[errors.NightshiftError]) -> dict[str, Any]:
        """Such a body."""
        error = {
            "type": kind_of(refusal).type,
            "code": refusal.code,
            "message": first_line(refusal),
            "param": "metadata" if issubclass(refusal, errors.InvalidRequest) else None,
            "retryable": refusal.retryable,
            "request_id": EXAMPLE_REQUEST_ID,
        }
        return {"error": error}

    def _prepare_examples_doc(self, doc: dict[str, Any], doc_info: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:  # noqa: ARG002 - flask-smorest's
        add_examples(doc)
        return doc


def is_rate_limited(view: Callable[..., Any] | None) -> bool:
    """Whether a view is marked ``rate_limited``."""
    return bool(getattr(view, "_apidoc", {}).get("rate_limited"))


def _of_input(doc: dict[str, Any]) -> tuple[type[errors.NightshiftError], ...]:
    if "requestBody" in doc:
        return _OF_A_BODY
    return _OF_A_QUERY if doc.get("parameters") else ()


def first_line(refusal: type[errors.NightshiftError]) -> str:
    """What the documentation of an error begins with."""
    return (refusal.__doc__ or refusal.code).strip().splitlines()[0]
