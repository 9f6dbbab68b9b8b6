"""What a job asks for, checked: which pipeline, which model, which parameters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, get_args

from pydantic import ValidationError

from shared import openai
from shared.errors import InvalidInput, JobError, NotFound
from shared.media.source import MediaInput, media_inputs
from shared.models.catalog import Catalog, Entry
from shared.schemas import Context, Envelope, Handler, Params, Registry
from shared.settings import Settings

SURROGATE = re.compile("[\ud800-\udfff]")
MAX_ECHO = 64  # characters of a wrong name that its error repeats
MAX_MEANT = 8  # wrong names for which the right ones are looked for, which takes 0.1 ms each


@dataclass(frozen=True)
class Plan:
    """A job whose input was found good."""

    pipeline: str
    handler: Handler
    params: Params
    entry: Entry | None
    envelope: Envelope
    nested: "tuple[Plan, ...]" = ()  # the pipelines that it is to call, as far as they are known

    @cached_property
    def media(self) -> list[MediaInput]:
        """Every file among its parameters."""
        return media_inputs(self.params)

    @property
    def model_id(self) -> str | None:
        """The model that will run, if any does."""
        return self.entry.full_id if self.entry else None

    @property
    def needs_torch(self) -> bool:
        """Whether it, or a pipeline that it is to call, runs by torch."""
        return self.handler.torch or any(nested.handler.torch for nested in self.nested)

    @property
    def is_remote(self) -> bool:
        """Whether a node runs it."""
        return self.entry is not None and self.entry.is_remote

    @property
    def needs_device(self) -> bool:
        """Whether anything of it runs here; a chain whose steps all run on nodes is known to need nothing here."""
        is_chain = self.handler.load is None and bool(self.nested)
        return not (self.is_remote or (is_chain and all(plan.is_remote for plan in self.nested)))


class Planner:
    """Plans jobs against what this worker serves: what its settings list, unless it is given a catalog.

    Raises, when it is made:
        NotFound, InvalidInput: the environment names a pipeline or a model that cannot be served.
    """

    def __init__(self, settings: Settings, registry: Registry, catalog: Catalog | None = None) -> None:
        everything = settings.model_copy(update={"pipeline": None, "model_id": None})
        self.catalog = catalog or Catalog.from_settings(settings)
        self._whole_catalog = catalog or Catalog.from_settings(everything)
        self._registry = registry
        self._own = settings.pipeline
        self.pipelines = self._served()

    def kind_of(self, job_input: Any) -> str:
        """What the backlog's estimates go by; for any input, also one that will be refused."""
        named = job_input.get("pipeline") if isinstance(job_input, dict) else None
        return str(named or self._own or "")

    def plan(self, job_input: Any) -> Plan:
        """Check a job's input.

        Raises:
            InvalidInput: with every field that is wrong; NotFound: no such pipeline.
        """
        if not isinstance(job_input, dict) or not job_input:
            raise InvalidInput('the job has no input; send {"input": {"pipeline": ..., ...}}')
        if not _is_text(job_input):
            raise InvalidInput("the input holds half of a surrogate pair (\\ud800 to \\udfff), which is no character")
        envelope, given = _split(job_input)
        if envelope.openai_route is not None:
            return self._planned_openai(envelope, envelope.openai_route)
        return self._planned(self._pipeline(envelope), envelope, given, self.catalog)

    def openai_models(self, job_input: Any) -> dict[str, Any] | None:
        """The answer to an input that asks, by OpenAI's API, which models there are; None for any other.

        Raises:
            NotFound: it asks for one that is not there.
        """
        route = job_input.get("openai_route") if isinstance(job_input, dict) else None
        if not isinstance(route, str):
            return None
        names = self._openai_pipelines()
        return openai.models(route, dict.fromkeys(e.full_id for e in self.catalog.entries if e.pipeline in names))

    @property
    def streams(self) -> bool:
        """Whether every pipeline here answers in pieces of text."""
        return bool(self.pipelines) and all(self._registry.get(name).stream for name in self.pipelines)

    @property
    def torch_free(self) -> bool:
        """Whether no pipeline that runs here needs torch."""
        return not any(self._registry.get(name).torch for name in self._here)

    @property
    def concurrent(self) -> bool:
        """Whether every pipeline that runs here lets several jobs use its model at once."""
        return bool(self._here) and all(self._registry.get(name).concurrent for name in self._here)

    @property
    def _here(self) -> list[str]:
        """The pipelines of which this worker runs something itself."""
        by_nodes = {e.pipeline for e in self.catalog.remote} - {e.pipeline for e in self.catalog.local}
        return [name for name in self.pipelines if name not in by_nodes]

    @property
    def remote(self) -> list[Entry]:
        """The models that nodes run, also those that only a pipeline of this worker may ask for."""
        named = self.catalog.remote
        return [*named, *(e for e in self._whole_catalog.remote if e not in named)]

    def is_for_a_node(self, job_input: Any) -> bool:
        """Whether a job will be forwarded, by the names that it gives; False for any that will be refused."""
        if not self.catalog.remote or not isinstance(job_input, dict):
            return False
        by_openai = job_input.get("openai_route") is not None
        given = job_input.get("openai_input") if by_openai else job_input
        asked = given.get("model" if by_openai else "model_id") if isinstance(given, dict) else None
        try:
            pipeline = next(iter(self._openai_pipelines()), "") if by_openai else self._pipeline(_split(job_input)[0])
            return self.catalog.resolve(pipeline, asked if isinstance(asked, str) and asked else None).is_remote
        except JobError:
            return False

    def plan_nested(self, pipeline: str, given: dict[str, Any]) -> Plan:
        """What another pipeline asks for: any of the registry, with this worker's model, else any of the whole list.

        Raises:
            InvalidInput, NotFound: as `plan`.
        """
        catalog = self.catalog if pipeline in self.catalog.pipelines() else self._whole_catalog
        return self._planned(pipeline, Envelope(), given, catalog)

    def _openai_pipelines(self) -> list[str]:
        return [name for name in self.pipelines if self._registry.get(name).openai]

    def _planned_openai(self, envelope: Envelope, route: str) -> Plan:
        pipeline, *_ = [*self._openai_pipelines(), None]
        handler = self._registry.get(pipeline).openai if pipeline else None
        if pipeline is None or handler is None:
            raise NotFound("this worker has no pipeline that answers OpenAI's API")
        if route not in get_args(openai.Route):
            raise NotFound(f"no route '{route[:MAX_ECHO]}'; there are: {', '.join(get_args(openai.Route))}")
        params = _validated(handler.params, {"route": route, "body": envelope.openai_input})
        asked = envelope.openai_input.get("model") or None
        try:
            entry = self.catalog.resolve(pipeline, None if asked is None else str(asked))
        except InvalidInput as unknown:
            raise NotFound(unknown.message, openai_code="model_not_found") from None
        return Plan(pipeline, handler, params, entry, envelope)

    def _planned(self, pipeline: str, envelope: Envelope, given: dict[str, Any], catalog: Catalog) -> Plan:
        handler = self._registry.get(pipeline)
        entry = _entry(pipeline, handler, given, catalog)
        fallbacks = {} if entry and entry.is_remote else envelope.fallbacks  # a node knows its model's own
        unsaid = {**fallbacks, **(entry.defaults if entry else {})}
        defaults = {name: value for name, value in unsaid.items() if name in handler.params.model_fields}
        params = _validated(handler.params, {**defaults, **_canonical(handler.params, given)})
        planning = _Planning(self, self._registry)
        if handler.validate:
            handler.validate(params, planning)
        return Plan(pipeline, handler, params, entry, envelope, tuple(planning.planned))

    def _pipeline(self, envelope: Envelope) -> str:
        served, name = self.pipelines, envelope.pipeline or self._only
        if name is None:
            raise InvalidInput(f"input.pipeline is missing; this worker serves: {', '.join(served)}")
        if name not in served:
            raise InvalidInput(f"this worker does not serve '{name[:MAX_ECHO]}'; it serves: {', '.join(served)}")
        return name

    @property
    def _only(self) -> str | None:
        """What runs where a job names no pipeline: the only one, besides chains of others."""
        own = [name for name in self.pipelines if not self._registry.get(name).chains]
        return own[0] if len(own) == 1 else None

    def _served(self) -> list[str]:
        """Those with a model in the catalog, and those that need none."""
        if own := self._own:
            if self._registry.get(own).load:
                self.catalog.resolve(own, None)
            return [own]
        modelled = self.catalog.pipelines()
        for name in modelled:
            self._registry.get(name)
        others = [n for n in self._registry.names() if n not in modelled and not self._registry.get(n).load]
        if modelled and all(self._registry.get(name).stream for name in modelled):  # texts are no steps of a chain
            others = [name for name in others if not self._registry.get(name).chains]
        return modelled + others


class _Planning:
    """Implements schemas.Planning, and keeps what was planned."""

    def __init__(self, planner: Planner, registry: Registry) -> None:
        self._planner = planner
        self._registry = registry
        self.planned: list[Plan] = []

    def handler(self, pipeline: str) -> Handler:
        """See schemas.Planning."""
        return self._registry.get(pipeline)

    def plan(self, pipeline: str, params: dict[str, Any]) -> Params:
        """See schemas.Planning."""
        plan = self._planner.plan_nested(pipeline, params)
        self.planned += (plan, *plan.nested)
        return plan.params


def _entry(pipeline: str, handler: Handler, given: dict[str, Any], catalog: Catalog) -> Entry | None:
    if handler.load is None and not any(e.pipeline == pipeline for e in catalog.remote):
        return None
    asked = given.get("model_id")
    return catalog.resolve(pipeline, asked if isinstance(asked, str) and asked else None)


def _is_text(value: Any) -> bool:
    """Whether all strings in a JSON value can be written as UTF-8; a receipt could not repeat the others."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += [*part, *part.values()]
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str) and not part.isascii() and SURROGATE.search(part):
            return False
    return True


def _split(given: dict[str, Any]) -> tuple[Envelope, dict[str, Any]]:
    try:
        return Envelope.split(given)
    except ValidationError as exc:
        raise _invalid(exc) from exc


def _canonical(model: type[Params], given: dict[str, Any]) -> dict[str, Any]:
    try:
        return model.canonical(given)
    except ValueError as exc:
        raise InvalidInput(str(exc)) from exc


def _meant(loc: list[int | str], known: Sequence[str]) -> str:
    """The parameter whose name is nearest to a wrong one, as a question; empty where none is near."""
    name = str(loc[0]) if len(loc) == 1 else ""
    near = get_close_matches(name, known, 1) if len(name) <= MAX_ECHO else []
    return f"; did you mean {near[0]}?" if near else ""


def run_handler(plan: Plan, model: Any, context: Context) -> None:
    """Run a plan's handler, whether it emits its text or yields it."""
    for piece in plan.handler.run(model, plan.params, context) or ():
        context.text(piece)


def _validated(model: type[Params], given: dict[str, Any]) -> Params:
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        raise _invalid(exc, [*model.model_fields, *model.OTHER_NAMES]) from exc


def _invalid(exc: ValidationError, known: Sequence[str] = ()) -> InvalidInput:
    """pydantic's findings as one message; the values given stay out of it, for they may be prompts or pictures."""
    errors: list[dict[str, Any]] = [
        {"loc": list(e["loc"]), "msg": e["msg"].removeprefix("Value error, "), "type": e["type"]}
        for e in exc.errors(include_input=False, include_url=False, include_context=False)
    ]
    for error in [error for error in errors if error["type"] == "extra_forbidden"][:MAX_MEANT]:
        error["msg"] = "there is no such parameter" + _meant(error["loc"], known)
    text = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg']}" for e in errors)
    return InvalidInput(text, errors=errors)
