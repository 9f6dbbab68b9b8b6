"""Runs a job on a container: one request for its result, which ends with its connection."""

import json
from collections.abc import Iterator
from typing import Any

from urllib3.response import BaseHTTPResponse

from shared.jobs.dialect import dialect_of
from shared.jobs.terms import JOB_ID, TIMEOUT, Terms
from shared.media.exchange import Deadline
from shared.nodes import answer, verdicts
from shared.nodes.answer import Answer
from shared.nodes.asking import put
from shared.nodes.calling import BLOCK_BYTES, Grip, Unheard, call, read_body, read_json
from shared.nodes.node import Address
from shared.nodes.report import Report
from shared.nodes.request import parameters
from shared.nodes.telling import Listener
from shared.plan import Plan

ASK_S = 2.0
JOBS_BEFORE = 1  # that may run there before this one, each for as long as this one may
CONFIRM_S = 10.0
DONE = "[DONE]"


def ask(address: Address) -> Report | None:
    """What the container says of itself; None where it has no `/capabilities` that can be read.

    Raises:
        Unheard: it says nothing.
    """
    return put(address, "/capabilities", ASK_S, Report.of_container)


def run(address: Address, plan: Plan, told: Listener, terms: Terms, grip: Grip, deadline: Deadline) -> Answer:
    """Send the job, and wait for its result; who cuts the connection cancels it there.

    Raises:
        Declined: another node may run it.
        Unheard: the connection broke, or was cut.
        JobError, Stopped: the job ended so.
    """
    streams = plan.handler.stream
    body = json.dumps(_as_there(plan)).encode()
    headers = {JOB_ID: str(terms.job_id), TIMEOUT: str(terms.timeout_s)}
    told.report("running")
    with call(
        "POST", address, f"/{plan.pipeline}", grip=grip, deadline=deadline, body=body, headers=headers
    ) as response:
        if response.status != 200:
            raise verdicts.of_response(response.status, read_json(read_body(response)), response.headers)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return _written(address, response, plan, told)
        result = read_json(read_body(response))
    made = answer.read(address.name, result, plan)
    if streams:
        _tell_text(result, told)
    return made


def has_stopped(address: Address, job_id: str) -> bool:
    """Whether the container says that a job, whose connection was cut, has left its device."""
    deadline = Deadline(CONFIRM_S)
    try:
        with Grip() as grip, call("POST", address, f"/cancel/{job_id}", grip=grip, deadline=deadline) as response:
            told = read_json(read_body(response))
    except Unheard:
        return False
    detail = told.get("detail") if isinstance(told, dict) else None
    is_over = isinstance(detail, dict) and detail.get("code") == "not_found"
    return response.status == 200 or is_over


def _as_there(plan: Plan) -> dict[str, Any]:
    """The parameters, with those spelled out for which a container's route has defaults of its own.

    A text comes as it is written even where its client wants it whole: so a cancel ends it within a token.
    """
    fields = type(plan.params).model_fields
    unlike = {name: getattr(plan.params, name) for name in dialect_of(plan.pipeline).defaults if name in fields}
    return {**unlike, **parameters(plan), **({"stream": True} if plan.handler.stream and "stream" in fields else {})}


def _written(address: Address, response: BaseHTTPResponse, plan: Plan, told: Listener) -> Answer:
    """Pass the pieces on as they come; the last event has the receipt."""
    for data in _events(response):
        if data == DONE:
            break
        event = read_json(data.encode())
        if not isinstance(event, dict):
            raise verdicts.nonsense("an event that is no JSON")
        if isinstance(event.get("text"), str):
            told.text(event["text"])
        elif isinstance(event.get("detail"), dict):
            raise verdicts.of_detail(event["detail"])
        else:
            made = answer.read(address.name, event, plan)
            _tell_end(event, told)
            return made
    raise verdicts.unheard("its text broke off")


def _events(response: BaseHTTPResponse) -> Iterator[str]:
    """The data of each server-sent event, of one line each; comments are passed over."""
    rest = b""
    while block := response.read1(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip().decode(errors="replace")


def _tell_text(result: Any, told: Listener) -> None:
    """A text that came whole."""
    if not isinstance(result, dict) or not isinstance(result.get("text"), str):
        raise verdicts.nonsense("no text")
    told.text(result["text"])
    _tell_end(result, told)


def _tell_end(result: dict[str, Any], told: Listener) -> None:
    usage = result.get("usage")
    counted = {k: v for k, v in usage.items() if isinstance(v, int)} if isinstance(usage, dict) else {}
    told.finish(str(result.get("finish_reason")), counted)
