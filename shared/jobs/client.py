"""Submits jobs to an endpoint and follows them: ours on this machine, or RunPod's."""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import MaxRetryError, NewConnectionError

from shared.errors import DeliveryFailed, InsufficientCapacity, Internal, InvalidInput, NotFound
from shared.jobs.backend import ENDED
from shared.jobs.failures import failure_of_job, failure_of_response

RUNPOD_URL = "https://api.runpod.ai/v2"
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_TIMEOUT_S = 30.0
_HOLD_MS = 10_000
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class Client:
    """One endpoint, as its clients see it.

    Args:
        url: where endpoints are, such as `https://api.runpod.ai/v2`.
        endpoint: the endpoint's id.
        key: its API key; sent to this URL and nowhere else.
        patience_s: how long to go on when the endpoint does not answer, is overloaded or fails.

    Methods raise Unauthorized, NotFound, InvalidInput or QueueFull as the endpoint says, and InsufficientCapacity
    when it does not answer.
    """

    def __init__(self, url: str, endpoint: str, key: str, *, patience_s: float = 60.0) -> None:
        self._url = f"{url.rstrip('/')}/{endpoint}"
        self._hint = "; is `pilotlight up` running?" if urlsplit(url).hostname in LOOPBACK else ""
        self._patience_s = patience_s
        self._session = requests.Session()
        self._session.auth = _Bearer(key)  # as a header it would give way to a ~/.netrc
        self._holds = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def submit(
        self,
        job_input: Mapping[str, Any],
        *,
        policy: Mapping[str, Any] | None = None,
        webhook: str | None = None,
        s3_config: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Queue a job and return its id; see `enqueue`."""
        queued = self.enqueue(
            job_input, policy=policy, webhook=webhook, s3_config=s3_config, idempotency_key=idempotency_key
        )
        return str(queued["id"])

    def enqueue(
        self,
        job_input: Mapping[str, Any],
        *,
        policy: Mapping[str, Any] | None = None,
        webhook: str | None = None,
        s3_config: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Queue a job; its `id` and `status`, which are those of the job that has the idempotency key already.

        With such a key the request is repeated when its answer is lost, without one when it was not sent.
        `s3_config` is a bucket for a result too large to go inline.

        Raises:
            Conflict: the key belongs to another request.
        """
        if not job_input:
            raise InvalidInput("input: empty; the endpoint would lose the job")
        body = {"input": dict(job_input), "policy": policy, "webhook": webhook, "s3Config": s3_config}
        return self._request(
            "POST",
            "run",
            body={name: value for name, value in body.items() if value is not None},
            headers={"Idempotency-Key": idempotency_key} if idempotency_key else {},
            repeatable=idempotency_key is not None,
        )

    def status(self, job_id: str) -> dict[str, Any]:
        """The job's state, as `/status` answers it."""
        return self._request("GET", f"status/{job_id}")

    def wait(self, job_id: str, *, on_progress: Callable[[dict[str, Any]], None] | None = None) -> Any:
        """The job's output, once it has completed.

        Args:
            job_id: from `submit`.
            on_progress: called with the body of `/status` whenever it has changed.

        Raises:
            JobError: the subclass of the failed job's code, Internal for a code of somebody else's.
            Cancelled, DeadlineExceeded: when the job was stopped.
        """
        pause_s = _FIRST_PAUSE_S
        last: dict[str, Any] = {}
        while True:
            asked = time.monotonic()
            job = self._held_status(job_id) if on_progress is None else self.status(job_id)
            if job["status"] in ENDED:
                if job["status"] != "COMPLETED":
                    raise failure_of_job(job)
                return job.get("output")
            if on_progress is not None and job != last:
                on_progress(job)
                pause_s = _FIRST_PAUSE_S
            last = job
            time.sleep(max(0.0, asked + pause_s - time.monotonic()))
            pause_s = min(_LONGEST_PAUSE_S, 1.5 * pause_s)

    def _held_status(self, job_id: str) -> dict[str, Any]:
        """The state once the job has ended, or after a while."""
        if self._holds:
            try:
                return self._request("GET", f"status-sync/{job_id}", params={"wait": _HOLD_MS})
            except NotFound:  # the job, or a route that RunPod does not document
                self._holds = False
        return self.status(job_id)

    def run(
        self,
        job_input: Mapping[str, Any],
        *,
        policy: Mapping[str, Any] | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any:
        """Submit a job, and wait for its output."""
        job_id = self.submit(job_input, policy=policy, webhook=webhook, idempotency_key=idempotency_key)
        return self.wait(job_id, on_progress=on_progress)

    def stream(self, job_id: str) -> Iterator[Any]:
        """What the job yields, as it does, each piece once; from the first one on where the endpoint can replay.

        RunPod forgets what was read, also when the answer was lost. There, what came is held against the job's
        output in the end, if that is the list of all pieces.

        Raises:
            JobError, Cancelled, DeadlineExceeded: when the job ends so, after its last piece.
            Internal: the job's worker was lost after its first piece, and the job begins anew.
            DeliveryFailed: pieces were lost on the way.
        """
        cursor = _Cursor()
        ended = ""
        while not ended:
            asked = time.monotonic()
            view = self._request("GET", f"stream/{job_id}", params={"wait": _HOLD_MS, "from": cursor.next})
            pieces = cursor.pass_over(view)
            yield from pieces
            ended = view["status"] if view["status"] in ENDED else ""
            if not pieces and not ended:
                time.sleep(max(0.0, asked + _FIRST_PAUSE_S - time.monotonic()))  # not every endpoint holds
        if ended != "COMPLETED":
            raise failure_of_job(self.status(job_id))
        if not cursor.is_numbered:
            yield from cursor.left_of(self.status(job_id).get("output"))

    def events(self, job_id: str, start: int = 0) -> Iterator[dict[str, Any]]:
        """Progress and pieces of a job, from event `start` on, as they come until it ends; ours can replay them.

        Each is `{"n", "progress"}` or `{"n", "piece"}`. How the job ended is for `status` to say.

        Raises:
            NotFound: RunPod's own endpoints have no such route.
        """
        while True:
            view = self._request("GET", f"events/{job_id}", params={"wait": _HOLD_MS, "from": start})
            yield from view["events"]
            start = view["next"]
            if view["status"] in ENDED:
                return

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop the job; the answer's `status` says whether that was still possible."""
        return self._request("POST", f"cancel/{job_id}")

    def retry(self, job_id: str) -> dict[str, Any]:
        """Queue a job that FAILED or TIMED_OUT again."""
        return self._request("POST", f"retry/{job_id}", repeatable=False)

    def purge(self) -> int:
        """Remove the jobs that nobody has taken, and say how many."""
        return int(self._request("POST", "purge-queue")["removed"])

    def health(self) -> dict[str, Any]:
        """Counts of jobs and workers by state."""
        return self._request("GET", "health")

    def download(self, url: str) -> bytes:
        """What a result's `url` stands for; the key goes along to the endpoint's own URLs only.

        Raises:
            DeliveryFailed: when it cannot be had.
        """
        if url.startswith("data:"):
            return base64.b64decode(url.partition(",")[2])
        own = url.startswith(f"{self._url}/")
        try:
            response = self._session.get(url, timeout=_TIMEOUT_S) if own else requests.get(url, timeout=_TIMEOUT_S)
        except requests.RequestException as exc:
            raise DeliveryFailed(f"the result could not be fetched: {type(exc).__name__}") from exc
        if response.status_code != 200:
            raise DeliveryFailed(f"the result could not be fetched: HTTP {response.status_code}")
        return response.content

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        until = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                response = self._session.request(
                    method, f"{self._url}/{path}", json=body, params=params, headers=headers, timeout=_TIMEOUT_S
                )
            except requests.RequestException as exc:
                # the exception's own text may hold the URL's query; its class says enough
                failure: BaseException = InsufficientCapacity(
                    f"the endpoint does not answer ({type(exc).__name__}){self._hint}"
                )
                again = _is_passing(exc) and (repeatable or _was_not_sent(exc))
            else:
                if response.status_code < 400:
                    return _object(response)
                failure = failure_of_response(response.status_code, response.content)
                again = response.status_code == 429 or (response.status_code >= 500 and repeatable)
                pause_s = max(pause_s, _retry_after_s(response))
            if not again or time.monotonic() + pause_s > until:
                raise failure
            time.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)


class _Cursor:
    """Where the reader of a job's pieces is."""

    def __init__(self) -> None:
        self.next = 0
        self.is_numbered = False
        self._last = -1
        self._read: list[Any] = []

    def pass_over(self, view: Mapping[str, Any]) -> list[Any]:
        """The pieces in an answer of `/stream`, which are then read.

        Raises:
            Internal: they are of another run than those read before.
        """
        if 0 <= self._last < view.get("first", 0):
            raise Internal(
                "the job's worker was lost while it wrote, and the job begins anew; read it from the start"
            )
        items = view.get("stream") or []
        pieces = [item["output"] for item in items]
        self.is_numbered = "next" in view
        if self.is_numbered:
            self.next = view["next"]
            self._last = items[-1]["n"] if items else self._last
        else:
            self._read += pieces
        return pieces

    def left_of(self, output: Any) -> list[Any]:
        """What the job's output holds beyond the pieces that were read; a worker may not gather them there.

        Raises:
            DeliveryFailed: what was read is not how the output begins.
        """
        if not isinstance(output, list) or not output:
            return []
        if output[: len(self._read)] != self._read:
            raise DeliveryFailed("pieces were lost on the way, or came twice; the job's output has them all")
        return output[len(self._read) :]


class _Bearer(AuthBase):
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _object(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError as exc:
        raise Internal("the endpoint's answer is not JSON; is this its URL?") from exc
    if not isinstance(answer, dict):
        raise Internal("the endpoint's answer is not a JSON object; is this its URL?")
    return answer


def _retry_after_s(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _is_passing(exc: requests.RequestException) -> bool:
    broken = (requests.exceptions.SSLError, requests.exceptions.ProxyError)
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(exc, passing) and not isinstance(exc, broken)


def _was_not_sent(exc: requests.RequestException) -> bool:
    if isinstance(exc, requests.ConnectTimeout):
        return True
    cause = exc.args[0] if exc.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
