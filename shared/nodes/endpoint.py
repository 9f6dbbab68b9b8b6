"""Runs a job on an endpoint in RunPod's shape: submitted once, followed, and cancelled there as it is here."""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

from shared import logs, openai
from shared.errors import Cancelled, Conflict, InvalidInput, JobError, ResultTooLarge, Stopped
from shared.job import Job, Stage
from shared.jobs.backend import ENDED
from shared.jobs.client import Client
from shared.jobs.failures import failure_of_job
from shared.jobs.submission import EXECUTION_TIMEOUT_MS
from shared.nodes import answer, verdicts
from shared.nodes.answer import Answer, Download
from shared.nodes.asking import put
from shared.nodes.node import Address
from shared.nodes.report import Report
from shared.nodes.request import job_input
from shared.nodes.telling import Listener
from shared.nodes.verdicts import Declined
from shared.plan import Plan

ASK_S = 3.0
SUBMIT_PATIENCE_S = 2.0  # another node may take it at once
FOLLOW_PATIENCE_S = 20.0  # it runs there: a while without answers is no reason to run it twice
CONFIRM_S = 10.0
PAUSE_S = (0.1, 1.0)
_STAGES: frozenset[str] = frozenset(get_args(Stage))


def ask(address: Address) -> Report | None:
    """How busy the endpoint is; None where it does not say.

    Raises:
        Unheard: it says nothing.
    """
    return put(address, "/health", ASK_S, Report.of_endpoint)


def run(address: Address, job: Job, plan: Plan, told: Listener, fetch: Download, timeout_s: float) -> Answer:
    """Submit the job, and follow it to its end.

    Raises:
        Declined: another node may run it.
        JobError, Stopped: the job ended so; a stop here was made there before, and confirmed.
    """
    there = _submitted(address, job, plan, timeout_s)
    logs.stage("forwarded", job.id, node=address.name, there=there)
    with _client(address, FOLLOW_PATIENCE_S) as client:
        try:
            if plan.handler.stream:
                output = _stream(client, _Stop(address, there), job, told, timeout_s)
            else:
                output = _wait(client, there, job, told, timeout_s)
        except (Stopped, JobError, Declined) as exc:
            meant = _meaning(exc, _Stop(address, there), job)
            if meant is exc:
                raise
            raise meant from exc
        except (LookupError, TypeError, AttributeError) as exc:
            raise verdicts.nonsense("what no endpoint answers") from exc
        if isinstance(plan.params, openai.Request):
            return Answer(address.name)
        return answer.read(address.name, output, plan, lambda url: _own_file(client, address, url) or fetch(url))


def _submitted(address: Address, job: Job, plan: Plan, timeout_s: float) -> str:
    """The job's id there.

    What is submitted twice runs once; so does what a queue here hands out again, unless it came to nothing there, or
    asks for something else now, as a step of a chain may.
    """
    policy = {"executionTimeout": _milliseconds(timeout_s)}

    def enqueue(key: str) -> dict[str, Any]:
        with _client(address, SUBMIT_PATIENCE_S) as client:
            return client.enqueue(job_input(plan), policy=policy, s3_config=job.s3_config, idempotency_key=key)

    anew = f"pilotlight-{uuid.uuid4()}"
    try:
        if not job.can_recur:
            return str(enqueue(anew)["id"])
        try:
            found = enqueue(f"pilotlight-{job.id}")
        except Conflict:
            found = enqueue(anew)
        came_to_nothing = found.get("status") in ENDED and found["status"] != "COMPLETED"
        return str((enqueue(anew) if came_to_nothing else found)["id"])
    except JobError as exc:
        raise _not_taken(exc) from exc
    except (LookupError, TypeError) as exc:
        raise verdicts.nonsense("what no endpoint answers") from exc


def _client(address: Address, patience_s: float) -> Client:
    return Client(*address.endpoint, address.token or "", patience_s=patience_s)


def _milliseconds(timeout_s: float) -> int:
    shortest, longest = EXECUTION_TIMEOUT_MS
    return max(shortest, min(longest, round(timeout_s * 1000)))


def _own_file(client: Client, address: Address, url: str) -> bytes | None:
    """A file that the endpoint keeps for itself is fetched, since its link opens with this worker's key only.

    Any other link is in a bucket, where it is signed for whoever has it, and the result may be larger than what
    carries ours.
    """
    return client.download(url) if url.startswith(f"{address.url}/") else None


def _wait(client: Client, there: str, job: Job, told: Listener, timeout_s: float) -> Any:
    """The output of a job that makes files, once it has ended; its progress is told."""
    shortest, longest = PAUSE_S
    pause_s, last = shortest, None
    with _woken_by_cancel(job) as woken:
        while True:
            view = _status(client, there)
            if view["status"] in ENDED:
                return _output(view)
            if view["status"] == "IN_PROGRESS" and job.deadline is None:
                job.start_clock(timeout_s)
            if view != last:
                _tell_progress(view, told)
                last, pause_s = view, shortest
            job.check()
            woken.wait(pause_s)
            pause_s = min(longest, 1.5 * pause_s)


def _stream(client: Client, stop: "_Stop", job: Job, told: Listener, timeout_s: float) -> Any:
    """What follows a text that is passed on as it comes; the job's whole output where that came at once.

    A cancel ends the job there, and with it the request that waits for the next piece.
    """
    closing: Any = None
    begun = False
    job.cancel.on_cancel(stop.soon)
    try:
        for piece in client.stream(stop.there):
            if job.deadline is None:
                job.start_clock(timeout_s)
            if isinstance(piece, str):
                told.text(piece)
                begun = True
            else:
                closing = piece
    finally:
        job.cancel.forget(stop.soon)
    if closing is None and not begun:
        closing = _output(_status(client, stop.there))
    return _told_end(closing, told, begun=begun)


def _told_end(closing: Any, told: Listener, *, begun: bool) -> Any:
    """Tell what closes a text, or an answer in OpenAI's shape."""
    if isinstance(closing, dict) and not closing.keys() & {"text", "receipt"}:
        told.answer(closing)
    elif isinstance(closing, dict):
        if not begun:
            told.text(closing["text"])
        told.finish(str(closing.get("finish_reason")), closing.get("usage") or {})
    elif not begun:
        raise verdicts.nonsense("no text")
    return closing or {}


def _status(client: Client, there: str) -> dict[str, Any]:
    """The job's state; a failure is the endpoint's, and not the job's."""
    try:
        return client.status(there)
    except JobError as exc:
        raise _not_taken(exc) from exc


def _output(view: Mapping[str, Any]) -> Any:
    if view["status"] != "COMPLETED":
        raise failure_of_job(dict(view))
    return view.get("output")


def _tell_progress(view: Mapping[str, Any], told: Listener) -> None:
    progress = view.get("output")
    if not isinstance(progress, dict) or progress.get("stage") not in _STAGES:
        return
    where = {name: progress[name] for name in ("step", "steps", "eta_s", "preview") if progress.get(name) is not None}
    told.report(progress["stage"], **where)


@contextmanager
def _woken_by_cancel(job: Job) -> Iterator[threading.Event]:
    woken = threading.Event()
    job.cancel.on_cancel(woken.set)
    try:
        yield woken
    finally:
        job.cancel.forget(woken.set)


class _Stop:
    """Cancels one job of an endpoint."""

    def __init__(self, address: Address, there: str) -> None:
        self.there = there
        self._address = address

    def soon(self) -> None:
        """Try to, without waiting."""
        threading.Thread(target=self.now, name="cancel-there", daemon=True).start()

    def now(self) -> bool:
        """Whether the endpoint says that the job has ended."""
        try:
            with _client(self._address, SUBMIT_PATIENCE_S) as client:
                return client.cancel(self.there).get("status") in ENDED
        except JobError as exc:
            fields = {"node": self._address.name, "there": self.there, "error": exc.code}
            logs.logger.warning("a cancel was not taken", extra={"fields": fields})
            return False

    def is_confirmed(self) -> bool:
        """Whether it has ended, at the latest after CONFIRM_S."""
        until = time.monotonic() + CONFIRM_S
        while not self.now():
            if time.monotonic() > until:
                return False
            time.sleep(PAUSE_S[0])
        return True


def _meaning(exc: JobError | Stopped | Declined, stop: _Stop, job: Job) -> BaseException:
    """What an end there means here; a job that was stopped here has been stopped there."""
    if job.cancel.is_cancelled():
        exc = Cancelled(job.cancel.reason)
    if isinstance(exc, Declined):
        stop.soon()  # nobody waits for it any more
        return exc
    if isinstance(exc, Stopped) and not stop.is_confirmed():
        return type(exc)(f"{exc.message}; its node has not confirmed that it stopped")
    if isinstance(exc, ResultTooLarge):  # perhaps only for what carries ours: then it still runs there
        stop.soon()
    return exc if isinstance(exc, InvalidInput) else verdicts.of_ending(exc)


def _not_taken(exc: JobError) -> Declined:
    """Of an endpoint that did not take the job, or does not tell of it.

    Its body may only be larger than an endpoint reads, which containers do not mind.
    """
    if isinstance(exc, InvalidInput):
        return Declined(exc, pause_s=0)
    found = verdicts.of_ending(exc)
    return found if isinstance(found, Declined) else Declined(exc)
