"""One endpoint over HTTP, in RunPod's shape; the key goes to this endpoint and nowhere else."""

import asyncio
import base64
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from requests.auth import AuthBase

from ui import config, failures
from ui.failures import Failure

T = TypeVar("T")

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two bytes
HOLD_MS = 2_000  # of a look at a stream, so that the page can say that it still waits
MAX_REQUESTS = 64
MAX_FILE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Stream:
    """A look at `/stream`: what came, where to go on, and whether pieces are numbered and can be read again."""

    status: str
    pieces: list[Any]
    next: int
    first: int
    numbered: bool

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED


class Endpoint:
    """Where jobs go. Methods raise Failure; each is one request, for a thread: see `aside`."""

    def __init__(self, settings: config.Endpoint) -> None:
        self.settings = settings
        self._url = f"{settings.base_url}/{settings.endpoint_id}"
        self._session = requests.Session()
        self._session.auth = _Bearer(settings.key)  # as a header it would give way to a ~/.netrc
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=MAX_REQUESTS)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._threads = ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="endpoint")

    async def aside(self, call: Callable[..., T], *args: Any) -> T:
        """The call's result; it runs in a thread, so that other visitors are served meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def submit(self, job_input: Mapping[str, Any], *, wait: bool = False) -> dict[str, Any]:
        """Queue a job, or with `wait` also wait a while for its end; the answer has its `id` and `status`."""
        return self._call("POST", "runsync" if wait else "run", body={"input": dict(job_input)})

    def status(self, job_id: str) -> dict[str, Any]:
        """The job now."""
        return self._call("GET", f"status/{_named(job_id)}")

    def stream(self, job_id: str, start: int) -> Stream:
        """What a job has written from piece `start` on; waits a while where there is nothing yet."""
        view = self._call("GET", f"stream/{_named(job_id)}", params={"from": start, "wait": HOLD_MS})
        pieces = [item.get("output") for item in view.get("stream") or []]
        following = view.get("next")
        return Stream(view["status"], pieces, following or 0, view.get("first", 0), following is not None)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop the job on the endpoint; the answer says whether that was still possible."""
        return self._call("POST", f"cancel/{_named(job_id)}")

    def retry(self, job_id: str) -> dict[str, Any]:
        """Queue a job that failed again, under the same id."""
        return self._call("POST", f"retry/{_named(job_id)}")

    def health(self) -> dict[str, Any]:
        """Counts of jobs and workers by state."""
        return self._call("GET", "health")

    def owns(self, url: str) -> bool:
        """Whether this endpoint serves the address."""
        return url.startswith(f"{self._url}/")

    def fetch(self, url: str) -> bytes:
        """The file that a result's `url` names: inline, on the endpoint, or behind a presigned link."""
        if url.startswith("data:"):
            return _inline(url)
        try:
            with (self._session if self.owns(url) else requests).get(url, timeout=TIMEOUT_S, stream=True) as response:
                if response.status_code != 200:
                    raise Failure("delivery_failed", f"The file's address answered HTTP {response.status_code}.")
                return _bounded(response)
        except requests.RequestException as exc:
            raise Failure("delivery_failed", f"The file could not be fetched ({type(exc).__name__}).") from None

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            response = self._session.request(
                method, f"{self._url}/{path}", json=body, params=params, timeout=TIMEOUT_S
            )
        except requests.RequestException as exc:  # whose own text holds the URL
            raise Failure("unreachable", f"No answer ({type(exc).__name__}).", passing=True) from None
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code >= 400:
            raise failures.of_response(response.status_code, answer, response.headers.get("Retry-After"))
        if not isinstance(answer, dict):
            raise Failure("unreachable", "What answers there is not an endpoint.")
        return answer


class _Bearer(AuthBase):
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _named(job_id: str) -> str:
    """The id, as part of a path: it may come from the address of the page."""
    if not JOB_ID.fullmatch(job_id):
        raise Failure("not_found", "The address names no job.")
    return quote(job_id)


def _inline(url: str) -> bytes:
    try:
        return base64.b64decode(url.partition(",")[2])
    except ValueError:
        raise Failure("delivery_failed", "A file within the result is not in base64.") from None


def _bounded(response: requests.Response) -> bytes:
    data = bytearray()
    for chunk in response.iter_content(2**20):
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise Failure("delivery_failed", "The file is larger than this page shows.")
    return bytes(data)
