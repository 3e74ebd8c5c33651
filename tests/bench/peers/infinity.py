"""infinity: its own server, and a client that keeps several requests there at once."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import httpx

TEXTS_PER_REQUEST = 64
N_CONNECTIONS = 8
STARTS_WITHIN_S = 180


class Infinity:
    """The server while it runs."""

    def __init__(self, python: Path, model: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        options = ["--device", "cpu", "--engine", "torch", "--no-model-warmup", "--host", "127.0.0.1"]
        self._argv = [
            str(python.with_name("infinity_emb")),
            "v2",
            "--model-id",
            str(model),
            "--served-model-name",
            "model",
            "--port",
            str(self._port),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=120, trust_env=False)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up_at = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"infinity did not start: {' '.join(self._argv)}")
            time.sleep(0.5)
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def seconds(self, source: Path, target: Path) -> float:
        """Embed a file of batch lines into a file of JSON lines; seconds from file to file."""
        started_s = time.perf_counter()
        lines = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
        groups = [lines[start : start + TEXTS_PER_REQUEST] for start in range(0, len(lines), TEXTS_PER_REQUEST)]
        with ThreadPoolExecutor(N_CONNECTIONS) as pool, target.with_suffix(".jsonl").open("w", encoding="utf-8") as out:
            for answered in pool.map(self._embed, groups):
                out.writelines(answered)
        return time.perf_counter() - started_s

    def _embed(self, lines: list[dict[str, object]]) -> list[str]:
        texts = [line["body"]["input"] for line in lines]  # type: ignore[index]
        body = {"model": "model", "input": texts, "encoding_format": "base64"}
        data = self._http.post("/embeddings", json=body).raise_for_status().json()["data"]
        return [
            json.dumps({"custom_id": line["custom_id"], "embedding": entry["embedding"]}) + "\n"
            for line, entry in zip(lines, data, strict=True)
        ]

    def _answers(self) -> bool:
        try:
            return self._http.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
