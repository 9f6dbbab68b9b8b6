"""What a node's failure means: the end of the job, or a reason to ask the next node.

Nothing of a result has left this worker when one of these is made, so that the next node may begin anew.
"""

from collections.abc import Mapping
from typing import Any

from shared.errors import (
    Cancelled,
    InsufficientCapacity,
    Internal,
    InvalidInput,
    JobError,
    MediaTooLarge,
    ModelUnavailable,
    NotFound,
    OutOfMemory,
    QueueFull,
    RequestTimeout,
    ResultTooLarge,
    Stopped,
    Unauthorized,
)
from shared.jobs.failures import failure

FULL_S = 1.0  # how long a node is left alone that is full and does not say for how long


class Declined(Exception):
    """A node did not run the job; another one may.

    `ending` is the job's, where no other node does; `reason` is for the log. The node is left alone for `pause_s`.
    None: it failed, and is left alone for longer each time; 0: it is well, and only not for this job.
    """

    def __init__(self, ending: JobError, *, pause_s: float | None = None, reason: str | None = None) -> None:
        super().__init__(ending.message)
        self.ending = ending
        self.pause_s = pause_s
        self.reason = reason or ending.message


def unheard(kind: str) -> Declined:
    """Of a node that did not answer, or broke off."""
    return Declined(InsufficientCapacity(f"the node that was to run the job is gone ({kind}); submit it again"))


def nonsense(what: str) -> Declined:
    """Of a node whose answer cannot be what it was asked for."""
    return Declined(Internal(f"a node answered {what}"))


def of_response(status: int, answer: Any, headers: Mapping[str, str]) -> JobError | Stopped | Declined:
    """Of a container that answered anything but a result; `answer` is its body's JSON, or None."""
    detail = answer.get("detail") if isinstance(answer, dict) else None
    if status == 422:
        return _invalid(detail)
    if not isinstance(detail, dict) or not detail.get("code"):  # what a proxy says for it, or who else is there
        return Declined(InsufficientCapacity(f"a node answered HTTP {status}; submit the job again later"))
    if status == 400 and detail["code"] == InvalidInput.code:  # a model of another node
        return Declined(ModelUnavailable("a node does not serve the model that models.json says it has"))
    return of_detail(detail, _seconds(headers))


def of_detail(detail: Mapping[str, Any], retry_after_s: float = FULL_S) -> JobError | Stopped | Declined:
    """Of `{"msg", "code"}`, as a container answers it or ends a text with it."""
    ending = failure(f"{detail.get('code')}: {detail.get('msg')}")
    if isinstance(ending, Cancelled):  # nobody here did: it shuts down
        return unheard("shut down")
    return of_ending(ending, retryable=detail.get("retryable") is True, retry_after_s=retry_after_s)


def of_ending(
    ending: JobError | Stopped, *, retryable: bool = False, retry_after_s: float = FULL_S
) -> JobError | Stopped | Declined:
    """Of an ending that a node tells: the job's own, or a reason to ask another node."""
    if isinstance(ending, QueueFull):
        return Declined(ending, pause_s=retry_after_s)
    if isinstance(ending, Unauthorized | NotFound):
        hidden = InsufficientCapacity("no node can take the job; the worker's log has the reason")
        return Declined(hidden, reason=f"{ending.code}: look at its url and token_env in models.json")
    if isinstance(ending, RequestTimeout):  # it says how we send, which is none of the client's business
        slow = InsufficientCapacity("the job did not reach its node in time; submit it again")
        return Declined(slow, pause_s=retry_after_s)
    if isinstance(ending, InsufficientCapacity | ModelUnavailable):
        return Declined(ending, pause_s=retry_after_s)
    if isinstance(ending, OutOfMemory | ResultTooLarge | MediaTooLarge):  # which another one may be large enough for
        return Declined(ending, pause_s=0)
    if isinstance(ending, Internal) and retryable:
        return Declined(ending)
    return ending


def _invalid(detail: Any) -> InvalidInput:
    """The findings of a 422, which is FastAPI's list."""
    found = [e for e in detail if isinstance(e, dict)] if isinstance(detail, list) else []
    errors = [{"loc": _in_input(e.get("loc")), "msg": str(e.get("msg")), "type": str(e.get("type"))} for e in found]
    text = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg']}" for e in errors)
    return InvalidInput(text or "a node refuses the parameters", errors=errors)


def _in_input(loc: Any) -> list[str | int]:
    """Without `body`, which a route puts before the field."""
    parts = [part for part in loc if isinstance(part, str | int)] if isinstance(loc, list) else []
    return parts[1:] if parts[:1] == ["body"] else parts


def _seconds(headers: Mapping[str, str]) -> float:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() and len(value) < 6 else FULL_S
