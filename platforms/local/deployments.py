"""Which worker process a job needs: one for each model, with all of its pipelines."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidInput
from shared.models.catalog import Entry
from shared.plan import Plan, Planner

IDLE_S: float = Entry.model_fields["idle_s"].default
_LONGEST_NAME = 24


@dataclass(frozen=True)
class Deployment:
    """What one worker process serves: one model, the models that a job chains, or none.

    `entries` are all pipelines of these, and what nodes run, for which any worker can ask them. `card` is the number
    of the only card that it may be on.
    """

    endpoint: str
    entries: tuple[Entry, ...] = ()
    card: int | None = None

    @property
    def local(self) -> list[Entry]:
        """What it loads itself."""
        return [e for e in self.entries if not e.is_remote]

    @property
    def models(self) -> list[str]:
        """Those that it loads, each with its revision."""
        return list(dict.fromkeys(map(_model, self.local)))

    @property
    def key(self) -> str:
        """What tells it from others."""
        return key_of(self.endpoint, self.models)

    @property
    def title(self) -> str:
        """Its models, for people."""
        return " and ".join(dict.fromkeys(e.full_id for e in self.local)) or "what needs no model"

    @property
    def name(self) -> str:
        """A word for it that can stand in a URL and in a file's name."""
        ids = list(dict.fromkeys(e.full_id for e in self.local)) or ["no-model"]
        words = "chain" if len(ids) > 1 else ids[0].rpartition("/")[2]
        return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:_LONGEST_NAME] or "model"

    @property
    def warm(self) -> bool:
        """Whether it is there from the start to the end; what a chain needs is not."""
        return len(self.models) == 1 and any(e.warm for e in self.local)

    def listed(self) -> list[Entry]:
        """Its entries for the list of its worker, which loads each model once before it asks for jobs."""
        loaded: list[Entry] = []
        for model in self.models:
            own = [e for e in self.local if _model(e) == model]
            loaded += [e for e in own if e.warm] or own[:1]
        return [e.model_copy(update={"warm": e in loaded}) for e in self.entries]

    @property
    def idle_s(self) -> float:
        """How long it is kept without a job."""
        return max((e.idle_s for e in self.local), default=IDLE_S)

    @property
    def said(self) -> list[int | None]:
        """What models.json says that each of its models needs, in bytes."""
        by_model: dict[str, list[float]] = {model: [] for model in self.models}
        for entry in self.local:
            by_model[_model(entry)] += [] if entry.gpu_memory_gb is None else [entry.gpu_memory_gb]
        return [int(max(gb) * 10**9) if gb else None for gb in by_model.values()]


class Deployments:
    """Those of one endpoint; made from the models that are its own, and as jobs ask for them.

    Raises, when it is made:
        InvalidInput: a model is pinned to two cards, or to one that is not among `cards`.
    """

    def __init__(self, endpoint: str, planner: Planner, cards: Iterable[int]) -> None:
        self._endpoint = endpoint
        self._planner = planner
        self._cards = tuple(cards)
        self.listed = {found.key: found for found in (self._of([entry]) for entry in planner.catalog.local)}

    def of_job(self, job_input: Any) -> Deployment:
        """What a job needs, all that it chains included.

        Raises:
            InvalidInput, NotFound: the job cannot be run, by the errors that a worker would answer.
        """
        return self._of(_entries(self._planner.plan(job_input)))

    def of_model(self, pipeline: str, model_id: str | None) -> Deployment:
        """What serves a model, as a job would name it.

        Raises:
            InvalidInput, NotFound: there is none.
        """
        if pipeline not in self._planner.pipelines:
            raise InvalidInput(f"no pipeline '{pipeline[:64]}' here; there are: {', '.join(self._planner.pipelines)}")
        if pipeline not in self._planner.catalog.pipelines():
            return self._of([])
        return self._of([self._planner.catalog.resolve(pipeline, model_id)])

    def answer(self, job_input: Any) -> Any:
        """The output of a job that only asks which models there are; None for any other.

        Raises:
            NotFound: it asks for one that is not there.
        """
        models = self._planner.openai_models(job_input)
        return [models] if models and self._planner.streams else models

    def _of(self, asked: Sequence[Entry]) -> Deployment:
        """What serves these: all entries of their models, in the catalog's order, by which defaults are chosen."""
        models = {_model(e) for e in asked if not e.is_remote}
        listed = [e for e in self._planner.catalog.entries if e.is_remote or _model(e) in models]
        served = (*listed, *(e for e in asked if e not in listed))
        return Deployment(self._endpoint, served, self._card(e for e in served if not e.is_remote))

    def _card(self, entries: Iterable[Entry]) -> int | None:
        pins = {e.gpu: e for e in entries if e.gpu is not None}
        if len(pins) > 1:
            ids = " and ".join(dict.fromkeys(e.full_id for e in pins.values()))
            raise InvalidInput(
                f"models.json pins {ids} to cards {', '.join(map(str, pins))}; one worker needs one card"
            )
        for number, entry in pins.items():
            if number not in self._cards:
                raise InvalidInput(f"models.json pins {entry.full_id} to card {number}, which --gpus does not name")
        return next(iter(pins), None)


def key_of(endpoint: str, models: Iterable[str]) -> str:
    """The key of the deployment of these models."""
    return " + ".join((endpoint, *sorted(models)))


def _model(entry: Entry) -> str:
    return f"{entry.full_id}@{entry.revision}"


def _entries(plan: Plan) -> list[Entry]:
    return [found.entry for found in (plan, *plan.nested) if found.entry is not None]
