"""The object store over plain S3, through the minio client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from app.errors import ObjectMissing, StorageUnavailable
from app.ports import ListedObject, StoredObject
from config.settings import Settings

PART_BYTES = 8 * 1024 * 1024
RETRY_AFTER_S = 2.0
_VENDOR_ERRORS = (MinioException, HTTPError, OSError)


class S3Store:
    """One bucket of an S3 server."""

    def __init__(self, client: Minio, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    @classmethod
    def from_settings(cls, settings: Settings) -> S3Store:
        """Make the client; nothing is contacted yet."""
        endpoint = urlsplit(settings.s3_endpoint)
        timeout = urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.storage_timeout_s)
        retries = urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504))
        client = Minio(
            endpoint.netloc,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            region=settings.s3_region,
            secure=endpoint.scheme == "https",
            http_client=urllib3.PoolManager(timeout=timeout, retries=retries, maxsize=32),
        )
        return cls(client, settings.s3_bucket)

    def put(self, key: str, source: BinaryIO, *, size_bytes: int | None = None) -> StoredObject:
        """See ``ObjectStore.put``."""
        hashed = _HashingReader(source)
        length = -1 if size_bytes is None else size_bytes
        with _our_errors(key):
            self._client.put_object(self._bucket, key, cast("BinaryIO", hashed), length, part_size=PART_BYTES)
        return StoredObject(key=key, size_bytes=hashed.size_bytes, sha256=hashed.sha256.hexdigest())

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[_CheckedReader]:
        """See ``ObjectStore.open``."""
        if length == 0:
            yield _CheckedReader(None, key=key, expected=0)
            return
        with _our_errors(key):
            response = self._client.get_object(self._bucket, key, offset=start, length=length or 0)
        try:
            announced = int(response.headers.get("content-length", "0"))
            yield _CheckedReader(response, key=key, expected=announced if length is None else length)
        finally:
            response.close()
            response.release_conn()

    def delete(self, keys: Iterable[str]) -> None:
        """See ``ObjectStore.delete``."""
        with _our_errors("(several)"):
            for problem in self._client.remove_objects(self._bucket, (DeleteObject(key) for key in keys)):
                if problem.code != "NoSuchKey":
                    raise StorageUnavailable(f"the object store did not delete {problem.name}: {problem.message}")

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See ``ObjectStore.list``."""
        with _our_errors(prefix):
            for found in self._client.list_objects(self._bucket, prefix=prefix, recursive=True):
                yield ListedObject(key=found.object_name, size_bytes=found.size, modified_at=found.last_modified)

    def abort_uploads(self, prefix: str, *, before: datetime) -> int:
        """See ``ObjectStore.abort_uploads``.

        The client has these calls but does not offer them in public. Its paging of them is broken (7.2.20 loses the
        marker), so only the first page is read; the next call finds what this one left.
        """
        client = self._client
        with _our_errors(prefix):
            found = client._list_multipart_uploads(self._bucket, prefix=prefix)  # noqa: SLF001 - see above
            stale = [upload for upload in found.uploads if upload.initiated_time and upload.initiated_time < before]
            for upload in stale:
                client._abort_multipart_upload(self._bucket, upload.object_name, upload.upload_id or "")  # noqa: SLF001
        return len(stale)

    def check(self) -> None:
        """See ``ObjectStore.check``."""
        with _our_errors(self._bucket):
            exists = self._client.bucket_exists(self._bucket)
        if not exists:
            raise StorageUnavailable(f"the bucket {self._bucket!r} does not exist")


class _HashingReader:
    """Passes a source on and hashes it by the way."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        self.size_bytes += len(data)
        return data


class _CheckedReader:
    """Reads a response and refuses one that ends before the length that was asked for or announced."""

    def __init__(self, response: Any, *, key: str, expected: int) -> None:
        self._response = response
        self._key = key
        self._missing = expected

    def read(self, size: int = -1, /) -> bytes:
        if self._response is None:
            return b""
        with _our_errors(self._key):
            data: bytes = self._response.read(None if size < 0 else size)
        self._missing -= len(data)
        if self._missing > 0 and (size < 0 or (size > 0 and not data)):
            raise StorageUnavailable(
                f"object {self._key} ended {self._missing} bytes early", retry_after_s=RETRY_AFTER_S
            )
        return data


@contextmanager
def _our_errors(key: str) -> Iterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except S3Error as error:
        if error.code in {"NoSuchKey", "NoSuchObject", "NotFound"}:
            raise ObjectMissing(f"there is no object {key}") from error
        raise StorageUnavailable(
            f"the object store refused {key}: {error.code}", retry_after_s=RETRY_AFTER_S
        ) from error
    except _VENDOR_ERRORS as error:
        raise StorageUnavailable(
            f"the object store does not answer ({type(error).__name__})", retry_after_s=RETRY_AFTER_S
        ) from error
