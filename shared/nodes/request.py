"""What a node is sent of a job: the parameters as they were checked here, with the files that were fetched here."""

from typing import Any

from pydantic import BaseModel

from shared import openai
from shared.media.source import MediaInput, data_url
from shared.plan import Plan
from shared.schemas import Params

ANY_TYPE = "application/octet-stream"  # nodes go by what a file begins with, as this worker does


def parameters(plan: Plan) -> dict[str, Any]:
    """The parameters that the job or models.json gave; what neither did stays the node's to choose.

    Files go as data URLs of the bytes that were checked here, so that a URL is fetched once, and under this worker's
    policy.
    """
    params = plan.params
    given = {name: _on_the_wire(getattr(params, name)) for name in sorted(params.model_fields_set)}
    if plan.entry and "model_id" in type(params).model_fields:
        given["model_id"] = plan.entry.full_id
    return given


def job_input(plan: Plan) -> dict[str, Any]:
    """The same as the input of an endpoint's job, with its envelope."""
    envelope = plan.envelope
    if isinstance(plan.params, openai.Request):
        return {"openai_route": plan.params.route, "openai_input": plan.params.body}
    details = {"details": True} if plan.handler.stream else {}
    delivery = {"delivery": envelope.delivery} if envelope.delivery else {}
    return {**parameters(plan), "pipeline": plan.pipeline, **details, **delivery}


def record(plan: Plan) -> dict[str, Any]:
    """What a receipt here holds of it: files by their hashes."""
    asked: Params = plan.params
    whole = asked.as_record()
    given = {name: whole[name] for name in sorted(asked.model_fields_set)}
    return {**given, "model_id": plan.model_id} if "model_id" in whole else given


def _on_the_wire(value: Any) -> Any:
    if isinstance(value, MediaInput):
        return data_url(value.file(), ANY_TYPE)
    if isinstance(value, BaseModel):
        return {name: _on_the_wire(getattr(value, name)) for name in sorted(value.model_fields_set)}
    if isinstance(value, list | tuple):
        return [_on_the_wire(each) for each in value]
    if isinstance(value, dict):
        return {name: _on_the_wire(each) for name, each in value.items()}
    return value
