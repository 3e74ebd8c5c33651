"""An example of every object that this API takes or gives, by its schema, for ``/openapi.json`` and ``/docs``.

A test holds each to its schema. A view may bring its own with ``example=``, which comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from app.api import message_examples, webhook_examples
from app.schemas import (
    batches,
    completions,
    embeddings,
    files,
    groups,
    health,
    jobs,
    keys,
    models,
    results,
    retries,
    schedules,
    scores,
    stats,
    tenants,
    uploads,
    workers,
)

_SUFFIX = "0199a0c27d4e0123456789abcdef0123"
_JOB_ID, _GROUP_ID, _BATCH_ID = f"job_{_SUFFIX}", f"group_{_SUFFIX}", f"batch_{_SUFFIX}"
_FILE_ID, _UPLOAD_ID, _SCHEDULE_ID = f"file-{_SUFFIX}", f"upload_{_SUFFIX}", f"sched_{_SUFFIX}"
_CREATED, _ENDED, _UNIX = "2026-11-25T02:30:00Z", "2026-11-25T02:31:10.250000Z", 1_795_573_800
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_ENCODER = "all-MiniLM-L6-v2"

_COUNTS = {"total": 1000, "pending": 0, "running": 0, "succeeded": 998, "failed": 2, "cancelled": 0, "expired": 0}
_USAGE = {"input_tokens": 24_310, "output_tokens": 0, "total_tokens": 24_310, "device_seconds": 3.2}
_COST = {"currency": "USD", "list": 0.000486, "discount": 0.000243, "charged": 0.000243}
_TOKENS = {"prompt_tokens": 6, "total_tokens": 6}
_TEXT_TOKENS = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
_ERRORS = {"by_code": {"context_length_exceeded": 2}, "validation": []}
_NOTHING_WAITS = {"waiting": None, "eta": None}
_RUN_AS = {
    "endpoint": "/v1/embeddings",
    "model": _ENCODER,
    "priority": "standard",
    "completion_window": "24h",
    "metadata": {"team": "loans"},
}
_MOMENTS = {
    "created_at": _CREATED,
    "started_at": "2026-11-25T02:30:00.120000Z",
    "finished_at": _ENDED,
    "deadline_at": "2026-11-26T02:30:00Z",
    "results_expire_at": "2026-12-25T02:31:10.250000Z",
}


def _links(own: str, *verbs: str) -> dict[str, str]:
    return {"self": own, **{verb: f"{own}/{verb}" for verb in verbs}}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [item], "has_more": False, "first_id": item["id"], "last_id": item["id"]}


_JOB = {
    "id": _JOB_ID,
    "object": "job",
    "state": "partially_succeeded",
    "phase": "finished",
    **_RUN_AS,
    "model_version": "fp32",
    "counts": _COUNTS,
    "progress": 1.0,
    **_NOTHING_WAITS,
    "usage": _USAGE,
    "cost": _COST,
    "errors": {**_ERRORS, "refusal": None},
    "attempt_runs": 0,
    "group_id": None,
    "schedule_id": None,
    **_MOMENTS,
    "links": {
        **_links(f"/v1/jobs/{_JOB_ID}", "results", "manifest", "cancel", "pause", "resume", "retry"),
        "openai_batch": f"/v1/batches/{_BATCH_ID}",
    },
}
_GROUP = {
    "id": _GROUP_ID,
    "object": "group",
    "state": "partially_succeeded",
    **_RUN_AS,
    "input_file_id": _FILE_ID,
    "counts": _COUNTS,
    "progress": 1.0,
    "usage": _USAGE,
    "cost": _COST,
    "errors": _ERRORS,
    "jobs": [_JOB_ID],
    **_MOMENTS,
    "links": {
        **_links(f"/v1/groups/{_GROUP_ID}", "results", "manifest", "cancel", "pause", "resume", "retry"),
        "jobs": f"/v1/jobs?group_id={_GROUP_ID}",
    },
}
_PART = {
    "seq": 1,
    "outcome": "succeeded",
    "key": f"parts/tenant_{_SUFFIX}/{_JOB_ID}/1.jsonl",
    "bytes": 1_048_576,
    "items": 998,
    "sha256": _SHA256,
}
_MANIFEST = {"object": "manifest", "complete": True, "digest": _SHA256}
_RESULT: dict[str, Any] = {
    "custom_id": "second",
    "index": 1,
    "status": "succeeded",
    "response": {
        "status_code": 200,
        "body": {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0123, -0.0456, 0.0789]}],
            "model": _ENCODER,
            "usage": _TOKENS,
        },
    },
    "error": None,
    "attempts": 1,
    "model_version": "fp32",
    "usage": {"input_tokens": 6, "output_tokens": 0},
}
_FILE = {
    "id": _FILE_ID,
    "object": "file",
    "bytes": 120_000,
    "created_at": _UNIX,
    "expires_at": _UNIX + 2_592_000,
    "filename": "texts.jsonl",
    "purpose": "batch",
    "status": "processed",
}
_BATCH = {
    "id": _BATCH_ID,
    "object": "batch",
    "endpoint": "/v1/embeddings",
    "model": _ENCODER,
    "input_file_id": _FILE_ID,
    "completion_window": "24h",
    "status": "completed",
    "errors": None,
    "output_file_id": f"file-{_SUFFIX[::-1]}",
    "error_file_id": None,
    "created_at": _UNIX,
    "in_progress_at": _UNIX + 1,
    "expires_at": _UNIX + 86_400,
    "finalizing_at": _UNIX + 70,
    "completed_at": _UNIX + 70,
    "failed_at": None,
    "expired_at": None,
    "cancelling_at": None,
    "cancelled_at": None,
    "request_counts": {"total": 1000, "completed": 1000, "failed": 0},
    "usage": {
        "input_tokens": 24_310,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 24_310,
    },
    "metadata": {"team": "loans"},
}
_MODEL = {
    "id": _ENCODER,
    "object": "model",
    "created": 1_763_683_200,
    "owned_by": "sentence-transformers",
    "engine": "sentence_transformers",
    "endpoints": ["/v1/embeddings"],
    "max_input_tokens": 256,
}
_SCHEDULE = {
    "id": _SCHEDULE_ID,
    "object": "schedule",
    "name": "nightly",
    "cron": "30 2 * * *",
    "timezone": "Europe/Lisbon",
    "due_by": "08:00",
    "job": _RUN_AS,
    "source": {"prefix": "loans/"},
    "enabled": True,
    "next_run_at": "2026-11-26T02:30:00Z",
    "created_at": _CREATED,
}
_RUN = {
    "id": f"schedrun_{_SUFFIX}",
    "object": "schedule.run",
    "schedule_id": _SCHEDULE_ID,
    "tick_at": _CREATED,
    "created_at": _CREATED,
    "job_ids": [_JOB_ID],
    "problem": None,
    "finished": True,
    "counts": _COUNTS,
    "warnings": [],
}
_UPLOAD = {
    "id": _UPLOAD_ID,
    "object": "upload",
    "bytes": 500_000_000,
    "created_at": _UNIX,
    "expires_at": _UNIX + 3_600,
    "filename": "big.jsonl",
    "purpose": "batch",
    "status": "completed",
    "file": {**_FILE, "bytes": 500_000_000, "filename": "big.jsonl"},
}
_QUOTA = {
    "weight": 2.0,
    "max_running_jobs": 1_000,
    "max_chunks": 10_000,
    "max_enqueued_tokens": 10_000_000_000,
    "requests_per_minute": 1_200,
    "max_storage_bytes": 1_099_511_627_776,
    "retention_s": 31_536_000,
    "budget": None,
}
_TENANT = {
    "id": f"tenant_{_SUFFIX}",
    "object": "tenant",
    "name": "loans",
    "created_at": _CREATED,
    "quota": _QUOTA,
    "limits": {**dict.fromkeys(_QUOTA), "weight": 2.0},
    "use": {"running_jobs": 1, "live_chunks": 2, "enqueued_tokens": 12_000, "stored_bytes": 4_500_000},
}
_WORKER = {
    "queue": "gpu.0",
    "pool": "gpu",
    "state": "live",
    "host": "node-1",
    "incarnation": "node-1:4242:0a1b2c3d",
    "started_at": _CREATED,
    "age_s": 70.2,
    "seen_at": _ENDED,
    "warm_models": [_ENCODER],
    "unloadable_models": [],
    "running": {"chunk_id": 17, "job_id": _JOB_ID, "running_s": 1.4},
    "n_waiting": 1,
    "drained_at": None,
}
_SECONDS = {"p50": 1.2, "p95": 4.8, "p99": 9.5}
_KEY_ID = "0123456789abcdef"
_KEY = {
    "key_id": _KEY_ID,
    "tenant": "loans",
    "name": "nightly run",
    "created_at": _CREATED,
    "last_used_at": _ENDED,
    "expires_at": None,
    "revoked_at": None,
}

EXAMPLES: Mapping[type[Schema], Any] = {
    **message_examples.EXAMPLES,
    **webhook_examples.EXAMPLES,
    jobs.JobSchema: _JOB,
    jobs.JobListSchema: _page(_JOB),
    groups.GroupSchema: _GROUP,
    groups.GroupListSchema: _page(_GROUP),
    results.ResultLineSchema: _RESULT,
    results.ManifestSchema: {**_MANIFEST, "job_id": _JOB_ID, "parts": [_PART]},
    results.GroupManifestSchema: {**_MANIFEST, "group_id": _GROUP_ID, "parts": [{**_PART, "job_id": _JOB_ID}]},
    retries.RetryRequestSchema: {"include": ["failed", "expired"]},
    files.FileSchema: _FILE,
    files.FileListSchema: _page(_FILE),
    files.FileDeletedSchema: {"id": _FILE_ID, "object": "file", "deleted": True},
    files.UploadFormSchema: {
        "purpose": "batch",
        "file": '{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}\n',
    },
    uploads.UploadSchema: _UPLOAD,
    uploads.UploadPartFormSchema: {"data": '{"custom_id": "a", "body": {"input": "a text"}}\n'},
    uploads.UploadPartSchema: {
        "id": f"part_{_SUFFIX}",
        "object": "upload.part",
        "created_at": _UNIX,
        "upload_id": _UPLOAD_ID,
    },
    uploads.UploadCompleteSchema: {"part_ids": [f"part_{_SUFFIX}"], "md5": "d41d8cd98f00b204e9800998ecf8427e"},
    batches.BatchSchema: _BATCH,
    batches.BatchListSchema: _page(_BATCH),
    models.ModelSchema: _MODEL,
    models.ModelListSchema: {"object": "list", "data": [_MODEL]},
    embeddings.EmbeddingsSchema: _RESULT["response"]["body"],
    completions.ChatCompletionSchema: {
        "id": f"chatcmpl-{_SUFFIX}",
        "object": "chat.completion",
        "created": _UNIX,
        "model": "my-chat",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Lisbon."}, "finish_reason": "stop"}],
        "usage": _TEXT_TOKENS,
    },
    completions.CompletionSchema: {
        "id": f"cmpl-{_SUFFIX}",
        "object": "text_completion",
        "created": _UNIX,
        "model": "my-chat",
        "choices": [{"index": 0, "text": " Lisbon.", "finish_reason": "stop"}],
        "usage": _TEXT_TOKENS,
    },
    scores.RankingSchema: {
        "id": f"rerank-{_SUFFIX}",
        "object": "rerank",
        "created": _UNIX,
        "model": "my-reranker",
        "results": [{"index": 1, "relevance_score": 0.97}, {"index": 0, "relevance_score": 0.02}],
        "usage": _TOKENS,
    },
    scores.ClassificationsSchema: {
        "id": f"classify-{_SUFFIX}",
        "object": "list",
        "created": _UNIX,
        "model": "my-classifier",
        "data": [{"index": 0, "label": "positive", "probs": [0.98, 0.02], "num_classes": 2}],
        "usage": _TOKENS,
    },
    schedules.ScheduleSchema: _SCHEDULE,
    schedules.ScheduleListSchema: _page(_SCHEDULE),
    schedules.ScheduleDeletedSchema: {"id": _SCHEDULE_ID, "object": "schedule", "deleted": True},
    schedules.RunSchema: _RUN,
    schedules.RunListSchema: _page(_RUN),
    stats.StatsSchema: {
        "object": "stats",
        "window_s": 3600,
        "queues": [
            {"pool": "gpu", "priority": "standard", "jobs": 3, "chunks": 40, "items": 40_000, "oldest_age_s": 12.5}
        ],
        "pools": [
            {
                "pool": "gpu",
                "queued_jobs": 3,
                "workers": 2,
                "wanted_workers": 2,
                "backlog_s": 400.0,
                "drained_in_s": 200.0,
            }
        ],
        "served": [
            {
                "priority": None,
                "jobs_ended": 120,
                "in_window_rate": 1.0,
                "wait_s": _SECONDS,
                "time_to_complete_s": _SECONDS,
            }
        ],
        "alerts": [],
    },
    keys.KeyRequestSchema: {"tenant": "loans", "name": "nightly run"},
    keys.IssuedKeySchema: {"key": f"ns_{_KEY_ID}_{_SHA256}", "key_id": _KEY_ID, "tenant": "loans"},
    keys.KeyListSchema: {"object": "list", "data": [_KEY]},
    keys.KeyRevokedSchema: {"key_id": _KEY_ID, "revoked": True},
    tenants.TenantSchema: _TENANT,
    tenants.TenantListSchema: {"object": "list", "data": [_TENANT], "has_more": False},
    workers.WorkerSchema: _WORKER,
    workers.WorkerListSchema: {"object": "list", "data": [_WORKER]},
    health.LivenessSchema: {"status": "ok"},
    health.ReadinessSchema: {
        "status": "degraded",
        "services": [
            {"name": "postgres", "status": "ok", "required": True, "reason": None},
            {"name": "rabbitmq", "status": "down", "required": False, "reason": "connection refused"},
        ],
    },
}


def add_examples(operation: dict[str, Any]) -> None:
    """Put an example beside every schema of an operation's body and answers that has none."""
    bodies = [operation.get("requestBody", {}), *operation.get("responses", {}).values()]
    for body in bodies:
        for media in body.get("content", {}).values() if isinstance(body, dict) else ():
            schema = media.get("schema")
            example = EXAMPLES.get(schema if isinstance(schema, type) else type(schema))
            if example is not None and not media.keys() & {"example", "examples"}:
                media["example"] = example
