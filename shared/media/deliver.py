"""Results to where the job, the operator or the local endpoint wants them; none is ever dropped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from shared.errors import InvalidInput, ResultTooLarge
from shared.media.addresses import split_url
from shared.media.fetch import Fetcher
from shared.media.headers import check_headers
from shared.media.s3 import GET_VALID_S, PUT_VALID_S, Bucket, bucket_at, presign
from shared.media.sizes import in_words
from shared.media.source import data_url
from shared.settings import Settings

Model = TypeVar("Model", bound=BaseModel)
Json = Mapping[str, Any]


class Encoded(Protocol):
    """One output as a file; read only, so that a frozen dataclass is one."""

    @property
    def data(self) -> bytes: ...

    @property
    def media_type(self) -> str: ...

    @property
    def extension(self) -> str: ...


class PutTarget(BaseModel):
    """A presigned URL that takes one output by PUT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False, description="Takes the file by PUT; answered without its query.")
    headers: dict[str, str] = Field({}, repr=False, description="Sent with it; Content-Type is set where missing.")


class Delivery(BaseModel):
    """The envelope's `delivery`: where a job wants its outputs, in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    put: list[PutTarget] = Field([], description="One for each output.")


class S3Config(BaseModel):
    """RunPod's `s3Config` of a job: a bucket for a result too large to go inline."""

    model_config = ConfigDict(frozen=True)

    access_id: str = Field(alias="accessId", min_length=1, repr=False)
    access_secret: str = Field(alias="accessSecret", min_length=1, repr=False)
    bucket_name: str | None = Field(None, alias="bucketName")
    endpoint_url: str = Field(alias="endpointUrl")


@dataclass(frozen=True)
class Deliverer:
    """Takes outputs to a job's places, or to the operator's: a bucket, or the local endpoint's files."""

    fetcher: Fetcher
    bucket: Bucket | None = None
    files_url: str | None = None
    files_token: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings, fetcher: Fetcher) -> Self:
        """The operator's places.

        Raises:
            InvalidInput: `BUCKET_ENDPOINT_URL` without keys, or without a name.
        """
        return cls(fetcher, _operators_bucket(settings), settings.files_url, _plain(settings.files_token))

    def check(self, delivery: Json | None, s3_config: Json | None, outputs: int) -> None:
        """Judge the places that a job names, before it costs device time; contacts none of them.

        Raises:
            InvalidInput: too few PUT URLs, a malformed `delivery` or `s3Config`, or a URL that may not be used.
        """
        for put in _puts_of(delivery, outputs):
            check_headers(put.headers)
            self.fetcher.check(put.url)
        bucket = _bucket_of(s3_config)
        if bucket:
            self.fetcher.check(bucket.endpoint_url)

    def has_place(self, delivery: Json | None, s3_config: Json | None) -> bool:
        """Whether there is a place for outputs that are too large to go inline."""
        return bool(_puts_of(delivery, 0) or s3_config or self.bucket or self.files_url)

    def deliver(
        self,
        job_id: str,
        outputs: Sequence[Encoded],
        delivery: Json | None,
        s3_config: Json | None,
        inline_limit: int | None,
        *,
        first: int = 0,
        keeps_files: bool = False,
    ) -> list[Any]:
        """The URL of each output; `first` others of the job have been delivered before.

        With `keeps_files` an output that stays inline is left as it is, in place of its data URL.

        They go to the job's PUT URLs where it named them. Else they stay inline where `inline_size` is within the
        limit (None: always). Else they go to the job's bucket, the operator's, or the local endpoint's files.

        Raises:
            ResultTooLarge: too large to go inline, and there is no other place.
            DeliveryFailed: the place did not take a file.
        """
        puts = _puts_of(delivery, first + len(outputs))[first:]
        if puts:
            return [self._to_put(put, output) for put, output in zip(puts, outputs, strict=False)]
        if inline_limit is None or inline_size(outputs) <= inline_limit:
            return list(outputs) if keeps_files else [data_url(o.data, o.media_type) for o in outputs]
        keys = [f"{quote(job_id, safe='')}/{n}.{output.extension}" for n, output in enumerate(outputs, first)]
        bucket = _bucket_of(s3_config) or self.bucket
        if bucket:
            return [self._to_bucket(bucket, key, output) for key, output in zip(keys, outputs, strict=True)]
        if self.files_url:
            root = self.files_url.rstrip("/")
            return [self._to_files(f"{root}/{key}", output) for key, output in zip(keys, outputs, strict=True)]
        raise ResultTooLarge(
            f"the result is {in_words(inline_size(outputs))} in base64, and the limit is {in_words(inline_limit)}; "
            "send delivery.put with a presigned URL for each output, send s3Config, or set BUCKET_ENDPOINT_URL"
        )

    def _to_put(self, put: PutTarget, output: Encoded) -> str:
        typed = any(name.lower() == "content-type" for name in put.headers)
        headers = put.headers if typed else {**put.headers, "Content-Type": output.media_type}
        self.fetcher.put(put.url, output.data, headers)
        return split_url(put.url).without_query

    def _to_bucket(self, bucket: Bucket, key: str, output: Encoded) -> str:
        url = presign(bucket, "PUT", key, PUT_VALID_S)
        self.fetcher.put(url, output.data, {"Content-Type": output.media_type}, trusted=bucket.trusted)
        return presign(bucket, "GET", key, GET_VALID_S)

    def _to_files(self, url: str, output: Encoded) -> str:
        headers = {"Content-Type": output.media_type}
        if self.files_token:
            headers["Authorization"] = self.files_token  # raw, as on all worker routes
        return _url_in(self.fetcher.put(url, output.data, headers, trusted=True)) or url


def inline_size(outputs: Sequence[Encoded]) -> int:
    """The length of all outputs as data URLs, in bytes."""
    return sum(len(data_url(b"", output.media_type)) + -(-len(output.data) // 3) * 4 for output in outputs)


def _puts_of(delivery: Json | None, outputs: int) -> list[PutTarget]:
    puts = _read(Delivery, delivery, "delivery").put if delivery else []
    if puts and len(puts) < outputs:
        raise InvalidInput(f"delivery.put has {len(puts)} URLs for {outputs} outputs; give one for each")
    return puts


def _bucket_of(s3_config: Json | None) -> Bucket | None:
    if not s3_config:
        return None
    config = _read(S3Config, s3_config, "s3Config")
    return bucket_at(config.endpoint_url, config.bucket_name, config.access_id, config.access_secret)


def _operators_bucket(settings: Settings) -> Bucket | None:
    if not settings.bucket_endpoint_url:
        return None
    key_id, secret = _plain(settings.bucket_access_key_id), _plain(settings.bucket_secret_access_key)
    if not key_id or not secret:
        raise InvalidInput("BUCKET_ENDPOINT_URL needs BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY")
    return bucket_at(settings.bucket_endpoint_url, settings.bucket_name, key_id, secret, trusted=True)


def _read(model: type[Model], value: Json, name: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        wrong = [(".".join(map(str, (name, *e["loc"]))), e["msg"]) for e in exc.errors(include_input=False)]
    raise InvalidInput("; ".join(f"{where}: {problem}" for where, problem in wrong))  # no cause: it shows the keys


def _url_in(answer: bytes) -> str | None:
    try:
        url = json.loads(answer).get("url")
    except (ValueError, AttributeError):
        return None
    return url if isinstance(url, str) else None


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
