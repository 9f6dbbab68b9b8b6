"""A real S3 server on loopback, with a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "results"
KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "a-secret-of-forty-characters"}


@contextmanager
def bucket_server() -> Iterator[str]:
    """The server's URL."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        server.stop()
