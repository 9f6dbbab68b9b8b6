"""Presigned URLs of a bucket: any S3, path style, signature version 4."""

import re
from dataclasses import dataclass, field
from urllib.parse import quote

from shared.errors import InvalidInput
from shared.media.addresses import split_url

DAY_S = 24 * 60 * 60
PUT_VALID_S = 60 * 60
GET_VALID_S = 7 * DAY_S  # the longest that version 4 allows

_BUCKET_IN_HOST = re.compile(r"(?P<bucket>.+)\.(?P<host>s3[.-].+)")
_REGION_IN_HOST = re.compile(
    r"s3[.-](?:dualstack\.)?([a-z]+-[a-z0-9-]+)(?:\.[^.:]+){2,}|([a-z0-9-]+)\.digitaloceanspaces\.com"
)


@dataclass(frozen=True)
class Bucket:
    """A bucket and its keys; `trusted` when the operator named it, not a job."""

    endpoint_url: str
    name: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    prefix: str = ""
    trusted: bool = False

    def url_of(self, key: str) -> str:
        """The object's URL, not signed."""
        return f"{self.endpoint_url}/{quote(self.name, safe='')}/{quote(self.prefix + key, safe='/~')}"


def bucket_at(
    endpoint_url: str,
    name: str | None,
    access_key_id: str,
    secret_access_key: str,
    *,
    prefix: str = "",
    trusted: bool = False,
) -> Bucket:
    """A bucket from what people configure: its name is given, or ends the URL's path, or begins its host.

    Raises:
        InvalidInput: the URL cannot be used, or no name is found.
    """
    url = split_url(endpoint_url)
    path, _, last = url.without_query.removeprefix(f"{url.scheme}://{url.netloc}").rstrip("/").rpartition("/")
    in_host = _BUCKET_IN_HOST.fullmatch(url.netloc)
    if last and name in (None, "", last):
        return Bucket(f"{url.scheme}://{url.netloc}{path}", last, access_key_id, secret_access_key, prefix, trusted)
    if in_host and name in (None, "", in_host["bucket"]):
        return Bucket(
            f"{url.scheme}://{in_host['host']}", in_host["bucket"], access_key_id, secret_access_key, prefix, trusted
        )
    if not name:
        raise InvalidInput("the bucket has no name; give bucketName (BUCKET_NAME), or end the endpoint's URL with it")
    return Bucket(url.without_query.rstrip("/"), name, access_key_id, secret_access_key, prefix, trusted)


def presign(bucket: Bucket, method: str, key: str, valid_s: int) -> str:
    """A URL that lets its holder GET or PUT one object for `valid_s` seconds."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method=method, url=bucket.url_of(key))
    keys = Credentials(bucket.access_key_id, bucket.secret_access_key)
    S3SigV4QueryAuth(keys, "s3", region_of(bucket.endpoint_url), expires=valid_s).add_auth(request)
    return str(request.url)


def region_of(endpoint_url: str) -> str:
    """The region that a signature names: from the host where it says so, else the one that other stores accept."""
    found = _REGION_IN_HOST.fullmatch(split_url(endpoint_url).host)
    return (found[1] or found[2]) if found else "us-east-1"
