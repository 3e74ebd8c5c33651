"""The API as the command line speaks to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
import httpx

from config.settings import ClientSettings, SettingsError, load_client_settings

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
PATIENT = httpx.Timeout(None, connect=5.0)
P = ParamSpec("P")
R = TypeVar("R")


class ApiClient:
    """Nightshift over HTTP; every refusal becomes a sentence and exit code 1."""

    def __init__(self, settings: ClientSettings, http: httpx.Client) -> None:
        self._settings = settings
        self._http = http

    def get(self, path: str, **params: Any) -> Any:
        """GET, decoded; parameters that are None are left out."""
        return self._send("GET", path, params=_given(params)).json()

    def post(self, path: str, body: Any = None, *, patient: bool = False) -> Any:
        """POST JSON, decoded; ``patient`` for what takes as long as it takes."""
        options = {"timeout": PATIENT} if patient else {}
        return self._send("POST", path, json={} if body is None else body, **options).json()

    def patch(self, path: str, body: Any) -> Any:
        """PATCH JSON, decoded."""
        return self._send("PATCH", path, json=body).json()

    def delete(self, path: str) -> Any:
        """DELETE, decoded; None where the answer is empty."""
        response = self._send("DELETE", path)
        return response.json() if response.content else None

    def upload(self, path: str, *, data: dict[str, str], files: dict[str, Any]) -> Any:
        """POST a form with files, which are read as they are sent."""
        return self._send("POST", path, data=data, files=files, timeout=PATIENT).json()

    @contextmanager
    def stream(self, path: str, **params: Any) -> Iterator[httpx.Response]:
        """GET a body that is read as it arrives."""
        with self._problems(), self._http.stream("GET", path, params=_given(params)) as response:
            if response.is_error:
                response.read()
                raise _refusal(response)
            yield response

    def as_admin(self) -> ApiClient:
        """The same address under the operator's key.

        Raises:
            click.ClickException: there is none.
        """
        if not self._settings.admin_key:
            raise click.ClickException(
                "this command needs the operator's key: set NIGHTSHIFT_ADMIN_KEY "
                "(the local stack writes it to .nightshift/env)"
            )
        self._http.headers["authorization"] = f"Bearer {self._settings.admin_key}"
        return self

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._problems():
            response = self._http.request(method, path, **options)
        if response.is_error:
            raise _refusal(response)
        return response

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise click.ClickException(
                f"nothing answers at {self._settings.url} (from {self._settings.source}): start the local stack with "
                "`make up`, or set NIGHTSHIFT_URL to a running one"
            ) from error
        except httpx.TimeoutException as error:
            raise click.ClickException(f"{self._settings.url} did not answer in time; try again") from error
        except httpx.HTTPError as error:
            raise click.ClickException(f"the connection to {self._settings.url} broke: {error}") from error


def with_client(command: Callable[Concatenate[ApiClient, P], R]) -> Callable[P, R]:
    """Give a command the API client as its first argument."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            settings = load_client_settings()
        except SettingsError as error:
            raise click.ClickException(str(error)) from error
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        with httpx.Client(base_url=settings.url, headers=headers, timeout=TIMEOUT, trust_env=False) as http:
            return command(ApiClient(settings, http), *args, **kwargs)

    return run


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _refusal(response: httpx.Response) -> click.ClickException:
    """The API's error as one line: message, code, param, request id."""
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return click.ClickException(f"HTTP {response.status_code} from {response.url}, and not in Nightshift's form")
    details = [str(error.get("code"))]
    if error.get("param"):
        details.append(f"param {error['param']}")
    details.append(f"request {error.get('request_id') or response.headers.get('x-request-id', 'unknown')}")
    return click.ClickException(f"{error.get('message')} ({', '.join(details)})")
