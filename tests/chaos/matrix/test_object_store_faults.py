"""The object store goes, lies, or is slow: ``make chaos``."""

from __future__ import annotations

import time

import pytest
from fault_lab import FaultLab

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]
BUSY_ANSWER = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("kind", ["refuses", "answers 500", "cuts answers short", "falls silent", "is slow"])
def test_store_fault(lab: FaultLab, kind: str) -> None:
    with lab.fault(
        14,
        f"the object store {kind}",
        injected="the proxy, for 10 s",
        happens="chunks are tried again or handed back; no job ends with an object missing",
        within_s=20.0,
    ) as fault:
        lab.load(fault)
        proxy = lab.stack.proxies["s3"]
        {
            "refuses": proxy.refuse,
            "answers 500": lambda: proxy.say(BUSY_ANSWER),
            "cuts answers short": lambda: proxy.truncate(200),
            "falls silent": proxy.black_hole,
            "is slow": lambda: proxy.delay(1.0),
        }[kind]()
        time.sleep(10)
        proxy.heal()
        fault.is_over()
