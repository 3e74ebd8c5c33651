"""What every object store promises: the S3 adapter on a real server and the one in memory, under one suite."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from memory_store import MemoryStore

from app.errors import ObjectMissing, StorageUnavailable
from app.ports import ObjectStore
from app.storage.s3 import PART_BYTES, S3Store
from config.settings import Settings


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    return S3Store.from_settings(Settings.from_environ(request.getfixturevalue("servers")))


@pytest.fixture
def prefix(store: ObjectStore) -> Iterator[str]:
    """A folder that is emptied again."""
    folder = f"contracts/{uuid4().hex}/"
    yield folder
    store.delete([found.key for found in store.list(folder)])


def read(store: ObjectStore, key: str, *, start: int = 0, length: int | None = None) -> bytes:
    with store.open(key, start=start, length=length) as reader:
        return reader.read()


class Dribble:
    """A source that gives a few bytes at a time, whatever is asked."""

    def __init__(self, content: bytes, step: int) -> None:
        self._source = io.BytesIO(content)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._source.read(self._step if size < 0 else min(size, self._step))


class Generated:
    """A long source that is made as it is read."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    def read(self, size: int = -1) -> bytes:
        n_bytes = self._left if size < 0 else min(size, self._left)
        self._left -= n_bytes
        return b"n" * n_bytes


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 5, b"\n" * (PART_BYTES + 1)], ids=len)
@pytest.mark.parametrize("knows_size", [True, False])
def test_what_is_put_comes_back_and_its_digest_is_told(
    store: ObjectStore, prefix: str, content: bytes, *, knows_size: bool
) -> None:
    key = prefix + "object"
    stored = store.put(key, io.BytesIO(content), size_bytes=len(content) if knows_size else None)
    assert (stored.key, stored.size_bytes, stored.sha256) == (key, len(content), hashlib.sha256(content).hexdigest())
    assert read(store, key) == content


@pytest.mark.parametrize(("start", "length"), [(0, 5), (3, 4), (9, 1), (0, None), (4, None), (2, 0)])
def test_a_range_is_exactly_what_was_asked_for(store: ObjectStore, prefix: str, start: int, length: int | None) -> None:
    store.put(prefix + "digits", io.BytesIO(b"0123456789"))
    wanted = b"0123456789"[start:] if length is None else b"0123456789"[start : start + length]
    assert read(store, prefix + "digits", start=start, length=length) == wanted


def test_an_object_with_fewer_bytes_than_asked_for_is_not_read_in_silence(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}short", io.BytesIO(b"0123456789"))
    with pytest.raises(StorageUnavailable):
        read(store, f"{prefix}short", start=4, length=7)


def test_reading_piece_by_piece_gives_the_whole_and_then_nothing(store: ObjectStore, prefix: str) -> None:
    content = bytes(range(256)) * 1000
    store.put(prefix + "object", io.BytesIO(content))
    with store.open(prefix + "object") as reader:
        pieces = list(iter(lambda: reader.read(10_007), b""))
        assert reader.read(10) == b""
    assert b"".join(pieces) == content
    assert all(pieces)


def test_a_reader_may_be_left_before_its_end(store: ObjectStore, prefix: str) -> None:
    store.put(prefix + "object", io.BytesIO(b"x" * 3_000_000))
    for _ in range(3):
        with store.open(prefix + "object") as reader:
            assert reader.read(10) == b"x" * 10


def test_putting_again_replaces(store: ObjectStore, prefix: str) -> None:
    for content in (b"first and longer", b"second"):
        store.put(prefix + "object", io.BytesIO(content))
    assert read(store, prefix + "object") == b"second"


def test_a_key_that_is_not_there_is_missing(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(ObjectMissing):
        read(store, prefix + "nothing")


def test_deleting_removes_and_what_is_not_there_is_no_error(store: ObjectStore, prefix: str) -> None:
    store.put(prefix + "a", io.BytesIO(b"a"))
    store.put(prefix + "b", io.BytesIO(b"b"))
    store.delete([prefix + "a", prefix + "nothing"])
    store.delete([])
    assert [found.key for found in store.list(prefix)] == [prefix + "b"]


def test_a_list_has_every_key_under_its_prefix_in_order(store: ObjectStore, prefix: str) -> None:
    names = ["a", "b/one", "b/two/deep", "b2", "c"]
    for name in reversed(names):
        store.put(prefix + name, io.BytesIO(name.encode()))
    listed = list(store.list(prefix))
    assert [found.key.removeprefix(prefix) for found in listed] == sorted(names)
    assert [found.size_bytes for found in listed] == [len(name) for name in sorted(names)]
    assert all(abs(datetime.now(UTC) - found.modified_at) < timedelta(minutes=5) for found in listed)
    assert [found.key for found in store.list(prefix + "b/")] == [prefix + "b/one", prefix + "b/two/deep"]


@pytest.mark.parametrize("size_bytes", [100, PART_BYTES + 5])
def test_a_source_that_ends_early_leaves_no_object(store: ObjectStore, prefix: str, size_bytes: int) -> None:
    with pytest.raises(StorageUnavailable):
        store.put(prefix + "short", io.BytesIO(b"x" * (size_bytes - 1)), size_bytes=size_bytes)
    assert list(store.list(prefix)) == []


@pytest.mark.parametrize("knows_size", [True, False])
def test_a_source_may_give_less_than_is_asked(store: ObjectStore, prefix: str, *, knows_size: bool) -> None:
    content = bytes(range(256)) * 50
    stored = store.put(
        prefix + "object",
        Dribble(content, 77),  # type: ignore[arg-type]  # only ``read`` is asked of it
        size_bytes=len(content) if knows_size else None,
    )
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert read(store, prefix + "object") == content


def test_a_source_that_fails_leaves_no_object(store: ObjectStore, prefix: str) -> None:
    class Broken(Dribble):
        def read(self, size: int = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise RuntimeError("the client went away")
            return data

    with pytest.raises(RuntimeError, match="went away"):
        store.put(prefix + "object", Broken(b"x" * 100, 60))  # type: ignore[arg-type]  # as above
    assert list(store.list(prefix)) == []


def test_uploads_that_were_never_completed_are_dropped_by_age(store: ObjectStore, prefix: str) -> None:
    begun = 0
    if isinstance(store, S3Store):
        client, bucket = store._client, store._bucket
        for name in ("one", "in a folder/two"):
            upload_id = client._create_multipart_upload(bucket, prefix + name, {})
            client._upload_part(bucket, prefix + name, b"x" * 100, None, upload_id, 1)
            begun += 1
    store.put(prefix + "complete", io.BytesIO(b"x"))
    now = datetime.now(UTC)
    assert store.abort_uploads(prefix, before=now - timedelta(minutes=5)) == 0
    assert store.abort_uploads(prefix + "in a", before=now + timedelta(minutes=5)) == begun // 2
    assert store.abort_uploads(prefix, before=now + timedelta(minutes=5)) == begun - begun // 2
    assert store.abort_uploads(prefix, before=now + timedelta(minutes=5)) == 0
    assert [found.key for found in store.list(prefix)] == [prefix + "complete"]


def test_the_bucket_answers(store: ObjectStore) -> None:
    store.check()


@pytest.fixture
def s3_settings(servers: dict[str, str]) -> Settings:
    return Settings.from_environ(servers)


def test_a_long_source_is_stored_in_flat_memory(s3_settings: Settings) -> None:
    store, key = S3Store.from_settings(s3_settings), f"contracts/{uuid4().hex}"
    tracemalloc.start()
    stored = store.put(key, Generated(24 * PART_BYTES))  # type: ignore[arg-type]  # as above
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    store.delete([key])
    assert stored.size_bytes == 24 * PART_BYTES
    assert peak_bytes < 8 * PART_BYTES, "three parts on their way and one being read, with its copies"


@pytest.mark.parametrize(
    "changes", [{"s3_endpoint": "http://127.0.0.1:9"}, {"s3_secret_key": "wrong"}], ids=["nobody there", "wrong key"]
)
def test_whatever_the_server_refuses_is_our_error(s3_settings: Settings, changes: dict[str, str]) -> None:
    store = S3Store.from_settings(replace(s3_settings, connect_timeout_s=1.0, **changes))
    with pytest.raises(StorageUnavailable):
        store.check()
    with pytest.raises(StorageUnavailable):
        store.put("contracts/x", io.BytesIO(b"x"))
    with pytest.raises(StorageUnavailable):
        read(store, "contracts/x")
    with pytest.raises(StorageUnavailable):
        list(store.list("contracts/"))
    with pytest.raises(StorageUnavailable):
        store.delete(["contracts/x"])


def test_a_bucket_that_is_not_there_is_named(s3_settings: Settings) -> None:
    with pytest.raises(StorageUnavailable, match="no-such-bucket-here"):
        S3Store.from_settings(replace(s3_settings, s3_bucket="no-such-bucket-here")).check()
