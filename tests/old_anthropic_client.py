"""Run by a test with an old ``anthropic`` on its path: a batch from its creation to its results, in one JSON line.

Arguments: the URL, the key, and the version of the SDK that is expected.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import anthropic


def requested(custom_id: str, **params: Any) -> Any:
    message = {"role": "user", "content": f"I am {custom_id}"}
    return {"custom_id": custom_id, "params": {"model": "chat", "max_tokens": 9, "messages": [message], **params}}


def main(url: str, key: str, version: str) -> None:
    assert anthropic.__version__ == version, anthropic.__file__
    client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, _strict_response_validation=True)
    batches = client.messages.batches
    made = batches.create(requests=[requested("warm", temperature=0.5), requested("bad", max_tokens=0)])
    print(made.id, flush=True)
    while (batch := batches.retrieve(made.id)).processing_status != "ended":
        time.sleep(0.05)
    lines = {line.custom_id: line.result for line in batches.results(batch.id)}
    refusals = []
    for call in (lambda: batches.cancel(batch.id), lambda: batches.retrieve(f"msgbatch_{'0' * 32}")):
        try:
            call()
        except anthropic.APIStatusError as error:
            refusals.append(type(error).__name__)
    found = {
        "counts": batch.request_counts.to_dict(),
        "kinds": {name: result.type for name, result in lines.items()},
        "text": lines["warm"].message.content[0].text,
        "listed": [each.id for each in batches.list(limit=1)][:1],
        "refusals": refusals,
        "deleted": batches.delete(batch.id).type,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
