"""A server of the S3 protocol, by moto, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Bucket:
    """A bucket called `models`, and what a client needs in its environment to reach it."""

    environment: dict[str, str]
    client: Any

    def put(self, key: str, file: Path) -> None:
        self.client.put_object(Bucket="models", Key=key, Body=file.read_bytes())


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Run a server with an empty bucket."""
    import boto3

    with subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_DEFAULT_REGION": "us-east-1"}
            client = boto3.client(
                "s3",
                endpoint_url=url,
                aws_access_key_id="test",
                aws_secret_access_key="SECRET",
                region_name="us-east-1",
            )
            for _ in range(50):
                try:
                    client.create_bucket(Bucket="models")
                    break
                except client.exceptions.ClientError:
                    time.sleep(0.1)
            yield Bucket({**os.environ, **keys, "AWS_ENDPOINT_URL": url, "FSSPEC_S3_ENDPOINT_URL": url}, client)
        finally:
            assert server.stdin is not None
            server.stdin.close()
            server.wait(20)
