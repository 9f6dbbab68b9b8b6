"""Files of strangers over HTTP: fetched and sent without reaching what they may not reach."""

import functools
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin

import certifi
from urllib3.response import BaseHTTPResponse

from shared.errors import DeliveryFailed, InvalidInput, JobError, MediaTooLarge
from shared.media.addresses import Resolver, Url, addresses_of, is_public, parse_hosts, resolve, split_url
from shared.media.exchange import NETWORK_ERRORS, Deadline, Dial, dial, exchange
from shared.media.headers import check_headers
from shared.media.sizes import in_words

MAX_REDIRECTS = 5
PUT_ATTEMPTS = 3
ANSWER_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BLOCK_BYTES = 64 * 1024


class Fetcher:
    """Every request to a URL that a user can name goes through here, from any thread.

    Args:
        max_bytes: the largest body that `get` reads.
        timeout_s: for one call as a whole, with its redirects and retries.
        allow_private_hosts: `host:port,...` exempt from the address policy, for tests and operators.
        resolver: the addresses of a host.
        dial: opens a connection to one address.
        tls: the trust in certificates; by default the system's and certifi's.
        backoff_s: the wait before the first retry of a `put`; it doubles.
    """

    def __init__(
        self,
        max_bytes: int,
        timeout_s: float,
        allow_private_hosts: str = "",
        *,
        resolver: Resolver = resolve,
        dial: Dial = dial,
        tls: ssl.SSLContext | None = None,
        backoff_s: float = 0.5,
    ) -> None:
        self.max_bytes = max_bytes
        self.timeout_s = timeout_s
        self.backoff_s = backoff_s
        self._exempt = parse_hosts(allow_private_hosts)
        self._resolver = resolver
        self._dial = dial
        self._given_tls = tls

    def check(self, url: str, *, trusted: bool = False) -> None:
        """Resolve and judge a URL without contacting it.

        Raises:
            InvalidInput: the URL may not be used, or its host is not known.
        """
        self._addresses(split_url(url), trusted, InvalidInput)

    def get(self, url: str) -> bytes:
        """Read a file, through at most MAX_REDIRECTS redirects, each checked as the first URL.

        Raises:
            InvalidInput: the URL may not be used, or does not answer with a file.
            MediaTooLarge: the file is larger than `max_bytes`.
        """
        deadline = Deadline(self.timeout_s)
        for _ in range(MAX_REDIRECTS + 1):
            here = split_url(url)
            with self._send("GET", here, deadline, InvalidInput) as response:
                if response.status not in _REDIRECTS:
                    return self._file(response, here)
                url = _next_hop(here, response)
        raise InvalidInput(f"{here.host} redirects more than {MAX_REDIRECTS} times; give the file's own URL")

    def put(self, url: str, data: bytes, headers: Mapping[str, str] | None = None, *, trusted: bool = False) -> bytes:
        """Send a file and return the answer's body, its first ANSWER_BYTES; retried on lost connections and 5xx.

        `trusted` skips the address policy: for places that the operator named.

        Raises:
            InvalidInput: the URL or a header may not be used.
            DeliveryFailed: the place did not take the file.
        """
        there = split_url(url)
        deadline = Deadline(self.timeout_s)
        for attempt in range(PUT_ATTEMPTS):
            if attempt:
                time.sleep(min(self.backoff_s * 2 ** (attempt - 1), deadline.left()))
            try:
                with self._send(
                    "PUT", there, deadline, DeliveryFailed, body=data, headers=headers or {}, trusted=trusted
                ) as response:
                    if 200 <= response.status < 300:
                        return response.read(ANSWER_BYTES)
                    failure = DeliveryFailed(_refusal(there, response.status))
                    if response.status < 500:
                        break
            except DeliveryFailed as exc:
                failure = exc
        raise failure

    def post_json(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """POST JSON once and return the status, whatever it is.

        Raises:
            InvalidInput: the URL or a header may not be used.
            DeliveryFailed: nobody answered.
        """
        there = split_url(url)
        sent = {**(headers or {}), "Content-Type": "application/json"}
        with self._send("POST", there, Deadline(self.timeout_s), DeliveryFailed, body=body, headers=sent) as response:
            return response.status

    @contextmanager
    def _send(
        self,
        method: str,
        url: Url,
        deadline: Deadline,
        failure: type[JobError],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        trusted: bool = False,
    ) -> Iterator[BaseHTTPResponse]:
        headers = headers or {}
        check_headers(headers)
        addresses = self._addresses(url, trusted, failure)
        try:
            with exchange(
                method, url, addresses, deadline, body=body, headers=headers, tls=lambda: self._tls, dial=self._dial
            ) as response:
                yield response
                late = not deadline.left()  # a cut connection can look like the end of the body
        except NETWORK_ERRORS as exc:
            raise failure(self._complaint(url, exc, deadline)) from exc
        if late:
            raise failure(self._complaint(url, TimeoutError(), deadline))

    def _addresses(self, url: Url, trusted: bool, unknown: type[JobError]) -> list[str]:
        addresses = addresses_of(url, self._resolver, unknown)
        exempt = trusted or (url.host, url.port) in self._exempt
        if not exempt and not all(is_public(address) for address in addresses):
            raise InvalidInput(
                f"{url.host} points to a private address; give a URL that is open to the internet, "
                f"or set ALLOW_PRIVATE_HOSTS={url.host}:{url.port} where this runs"
            )
        return addresses

    def _file(self, response: BaseHTTPResponse, url: Url) -> bytes:
        if response.status != 200:
            raise InvalidInput(f"{url.host} answered {response.status}; check that the URL is open to anyone")
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise InvalidInput(
                f"{url.host} answered with a body encoded as {encoding[:20]!r}; serve the file as it is"
            )
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            raise MediaTooLarge(f"the file at {url.host} is {in_words(int(announced))}; {self._limit}")
        body = bytearray()
        while block := response.read(_BLOCK_BYTES):
            body += block
            if len(body) > self.max_bytes:
                raise MediaTooLarge(f"the file at {url.host} goes on after {in_words(self.max_bytes)}; {self._limit}")
        return bytes(body)

    @property
    def _limit(self) -> str:
        return f"the limit is {in_words(self.max_bytes)} (MAX_MEDIA_BYTES)"

    def _complaint(self, url: Url, exc: Exception, deadline: Deadline) -> str:
        if isinstance(exc, TimeoutError) or not deadline.left():
            return f"{url.host} took longer than {self.timeout_s:g} s (FETCH_TIMEOUT_S)"
        if isinstance(exc, ssl.SSLCertVerificationError):
            return f"{url.host} has no certificate that is valid for this name"
        return f"{url.host} cannot be reached, or broke off; check the URL"

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        if self._given_tls:
            return self._given_tls
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())  # slim images have no certificates of their own
        return context


def _next_hop(url: Url, response: BaseHTTPResponse) -> str:
    try:
        return urljoin(str(url), response.headers["location"])
    except (KeyError, ValueError) as exc:
        raise InvalidInput(f"{url.host} redirects to nowhere; give the file's own URL") from exc


def _refusal(url: Url, status: int) -> str:
    if status in _REDIRECTS:
        return f"{url.host} redirects the PUT, and redirects are not followed; give the final URL"
    return f"{url.host} answered {status} to the PUT; check that the URL is presigned for PUT and not expired"
