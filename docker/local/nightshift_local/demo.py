"""``make demo``: the Python standard library's docstrings become embeddings, as one batch.

The client is OpenAI's own SDK, unmodified.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import openai
from numpy.typing import NDArray
from openai.types import Batch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nightshift_local.errors import StackError
from nightshift_local.stack import Stack, read_env
from nightshift_local.stdlib_docstrings import Docstring, collect_docstrings

MODEL = "all-MiniLM-L6-v2"
ENDPOINT: Literal["/v1/embeddings"] = "/v1/embeddings"
QUESTION = "How do I read a file that is inside a zip archive?"
_POLL_S = 0.5
_TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
_HITS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back.

    Attributes:
        vectors: float32 (n, d), one row per name, L2-normalised.
        failures: error code -> number of items.
    """

    names: Sequence[str]
    vectors: NDArray[np.float32]
    failures: Counter[str]


def run_demo(stack: Stack, console: Console, *, limit: int | None = None) -> None:
    """Start the stack, run the batch, check it, search in it; stop the stack unless it ran before.

    Args:
        limit: only so many texts.
    Raises:
        StackError: the batch did not complete, or an item came back never or twice.
    """
    ran_before = bool(stack.states())
    try:
        stack.up()
        _embed_and_search(_client(stack), console, limit)
    except openai.OpenAIError as error:
        raise StackError(f"The API's answer was not the expected one: {error}") from error
    finally:
        if ran_before:
            console.print("The stack was running before and runs on; `make down` stops it.")
        else:
            stack.down()


def _client(stack: Stack) -> openai.OpenAI:
    env = read_env(stack.home.env_file)
    return openai.OpenAI(
        base_url=f"{env['NIGHTSHIFT_URL']}/v1",
        api_key=env["NIGHTSHIFT_API_KEY"],
        http_client=openai.DefaultHttpxClient(trust_env=False),  # a proxy has no way to our loopback
    )


def _embed_and_search(client: openai.OpenAI, console: Console, limit: int | None) -> None:
    texts = _with_unique_names(collect_docstrings()[:limit])
    n_characters = sum(map(len, texts.values()))
    console.print(f"\n{len(texts):,} docstrings of the standard library, {n_characters:,} characters")
    started = time.monotonic()
    batch = _submit(client, texts)
    console.print(f"batch {batch.id}, model {MODEL}")
    batch = _watch(client, batch, console, total=len(texts))
    wall_s = time.monotonic() - started
    if batch.status != "completed":
        raise StackError(f"The batch ended as {batch.status}: {batch.errors}")
    outcome = _download(client, batch)
    _check_each_once(texts, outcome)
    _print_summary(console, batch, outcome, wall_s)
    _search(client, console, texts, outcome)


def _with_unique_names(docstrings: Sequence[Docstring]) -> dict[str, str]:
    """custom_id -> text; a name that several texts carry (a property and its setter) gets a number behind."""
    seen: Counter[str] = Counter()
    texts: dict[str, str] = {}
    for docstring in docstrings:
        seen[docstring.name] += 1
        suffix = f"#{seen[docstring.name]}" if seen[docstring.name] > 1 else ""
        texts[docstring.name + suffix] = docstring.text
    return texts


def _submit(client: openai.OpenAI, texts: dict[str, str]) -> Batch:
    lines = b"".join(_input_line(name, text) for name, text in texts.items())
    file = client.files.create(file=("docstrings.jsonl", io.BytesIO(lines)), purpose="batch")
    # The model reads 256 tokens; of a longer docstring it embeds the beginning instead of failing the item.
    return client.batches.create(
        input_file_id=file.id,
        endpoint=ENDPOINT,
        completion_window="24h",
        metadata={"name": "demo"},
        extra_body={"nightshift": {"on_oversize": "truncate"}},
    )


def _input_line(name: str, text: str) -> bytes:
    body = {"model": MODEL, "input": text, "encoding_format": "base64"}
    return json.dumps({"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}).encode() + b"\n"


def _watch(client: openai.OpenAI, batch: Batch, console: Console, *, total: int) -> Batch:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(batch.status, total=total)
        while batch.status not in _TERMINAL:
            time.sleep(_POLL_S)
            batch = client.batches.retrieve(batch.id)
            counts = batch.request_counts
            done = counts.completed + counts.failed if counts else 0
            progress.update(task, completed=done, description=batch.status)
    return batch


def _download(client: openai.OpenAI, batch: Batch) -> Outcome:
    names: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for line in _lines(client, batch.output_file_id):
        names.append(line["custom_id"])
        encoded = line["response"]["body"]["data"][0]["embedding"]
        rows.append(np.frombuffer(base64.b64decode(encoded), dtype="<f4"))
    failures: Counter[str] = Counter()
    for line in _lines(client, batch.error_file_id):
        names.append(line["custom_id"])
        failures[_error_code(line)] += 1
    return Outcome(names, np.stack(rows) if rows else np.empty((0, 0), np.float32), failures)


def _lines(client: openai.OpenAI, file_id: str | None) -> Iterator[dict[str, Any]]:
    if file_id is None:
        return
    with client.files.with_streaming_response.content(file_id) as response:
        for line in response.iter_lines():
            yield json.loads(line)


def _error_code(line: dict[str, Any]) -> str:
    error = line["error"] or line["response"]["body"]["error"]
    return str(error["code"])


def _check_each_once(texts: dict[str, str], outcome: Outcome) -> None:
    counted = Counter(outcome.names)
    missing = texts.keys() - counted.keys()
    repeated = [name for name, times in counted.items() if times > 1]
    unknown = counted.keys() - texts.keys()
    if missing or repeated or unknown:
        raise StackError(
            f"Of {len(texts)} items {len(missing)} did not come back, {len(repeated)} came back more than once "
            f"and {len(unknown)} were never sent."
        )


def _print_summary(console: Console, batch: Batch, outcome: Outcome, wall_s: float) -> None:
    n_items = len(outcome.names)
    n_tokens = batch.usage.total_tokens if batch.usage else 0
    mix = ", ".join(f"{count} {code}" for code, count in outcome.failures.most_common()) or "none"
    console.print(f"every custom_id came back exactly once: {n_items:,}")
    console.print(f"succeeded {len(outcome.vectors):,}, failed {n_items - len(outcome.vectors):,} ({mix})")
    console.print(
        f"[bold]{n_items / wall_s:,.0f} texts/s, {n_tokens / wall_s:,.0f} tokens/s[/bold] "
        f"({wall_s:.1f} s from upload to completed, {n_tokens:,} tokens)"
    )


def _search(client: openai.OpenAI, console: Console, texts: dict[str, str], outcome: Outcome) -> None:
    """Embed the question on the sync lane and rank the batch's vectors by cosine."""
    started = time.monotonic()
    answer = client.embeddings.create(model=MODEL, input=QUESTION)
    took_ms = (time.monotonic() - started) * 1000
    scores = outcome.vectors @ np.asarray(answer.data[0].embedding, dtype=np.float32)
    console.print(f"\n[bold]{QUESTION}[/bold]  (POST {ENDPOINT}: {took_ms:.0f} ms)")
    for row in np.argsort(scores)[::-1][:_HITS]:
        name = outcome.names[row]
        first_line = texts[name].splitlines()[0]
        console.print(f"  {scores[row]:.3f}  {name}: {first_line}", markup=False, soft_wrap=True)
