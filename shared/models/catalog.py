"""models.json: which models a worker serves, and with which defaults."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from shared import logs
from shared.errors import InvalidInput, UnknownModel
from shared.media.addresses import split_url
from shared.models.orchestrator import switched_on, translated
from shared.settings import Settings

TEXT_GENERATION = "text-generation"
BUILT_IN = Path(__file__).parents[2] / "templates" / "models.json"
NAME = r"(?![^/]*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"  # the hub has no longer ones
HUB_ID = re.compile(rf"{NAME}/{NAME}(?<!\.git)")
IN_REPOSITORY = re.compile(rf"({HUB_ID.pattern})/((?:\w[\w.+() -]*/)*\w[\w.+() -]*\.(?:safetensors|gguf))")
MAX_NAME = 255  # bytes of a file's or folder's name, on most volumes
COMMIT = re.compile(r"[0-9a-f]{40}")
LOCAL = ("demo/", "/", "./", "../")  # how the ids of models start that are on no hub


class Entry(BaseModel):
    """One model of one pipeline."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    pipeline: str = Field(description="The pipeline that runs it.")
    model_id: str = Field(
        description="A hub id, that of one file on the hub (`owner/name/file.safetensors`), `demo/...`, or a folder."
    )
    revision: str = Field("main", description="A commit of the hub, or a branch, which moves.")
    pinned: bool = Field(False, description="True: `revision` is a commit; anything else is refused.")
    files: tuple[str, ...] = Field((), description="The one file to use of several, such as a quantisation.")
    pickles: dict[str, str] = Field(
        default_factory=dict, description="Pickled weights that may be downloaded: each file with its sha256."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="How to load it; for a GGUF file: gpu_layers, context, slots."
    )
    warm: bool = Field(False, description="Load it when the worker starts, before the first job.")
    gpu_memory_gb: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="What it needs on the card, in 10^9 bytes."
    )
    gpu_type: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9+-]*!?(:[1-8])?$",
        description="On Modal: the card to rent, in its words (`L40S`, `H100`); by `gpu_memory_gb` when not given.",
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Longest run of one job, counted from its start on the device, in place of `JOB_TIMEOUT_S`.",
    )
    gpu: int | None = Field(None, ge=0, description="With `up --gpus`: the number of the only card to place it on.")
    idle_s: float = Field(
        300,
        ge=0,
        allow_inf_nan=False,
        description="With `up --gpus`, unless `warm`, and on Modal: its worker ends after so long without a job.",
    )
    capacity: int | None = Field(None, ge=1, description="How many jobs may be sent for it at once; advertised.")
    price_per_unit: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="What a unit costs; advertised, and charged by nobody here."
    )
    pixels_per_unit: int = Field(1, ge=1, description="The pixels, or tokens of text, that are one unit.")
    currency: str = Field("wei", pattern="^[A-Za-z]{1,8}$", description="Of the price: `wei`, `eth`, or as `USD`.")
    gateway: str = Field("", description="In an orchestrator's list; without effect here.")
    optimization_flags: dict[str, Any] = Field(
        default_factory=dict, description="In an orchestrator's list; without effect here, which the log says."
    )
    defaults: dict[str, Any] = Field(default_factory=dict, description="Parameters where a job gives none.")
    url: tuple[str, ...] = Field(
        (), description="Nodes that run it in this worker's place: containers, or endpoints `https://.../v2/{id}`."
    )
    token_env: str | None = Field(None, description="The name of the variable that holds the nodes' token.")

    @model_validator(mode="before")
    @classmethod
    def _as_orchestrators_write(cls, given: Any) -> Any:
        return translated(given) if isinstance(given, dict) else given

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """The id of one file on the hub, as its repository's id and its name there."""
        model_id = given.get("model_id") if isinstance(given, dict) else None
        if not isinstance(model_id, str) or not (found := IN_REPOSITORY.fullmatch(model_id)):
            return given
        if given.get("files", ()) not in ((), [], (found[2],), [found[2]]):
            raise ValueError(f"model_id names the file {found[2]}, and files another one")
        return {**given, "model_id": found[1], "files": (found[2],)}

    @property
    def full_id(self) -> str:
        """The id by which jobs and receipts name the model: with its file, where that is one of several."""
        return self.model_id if self.model_id.startswith(LOCAL) else "/".join((self.model_id, *self.files))

    def loading(self) -> dict[str, Any]:
        """How it is loaded, with the pickles that may be read, by their hashes."""
        return {**self.options, **({"pickles": self.pickles} if self.pickles else {})}

    @property
    def is_remote(self) -> bool:
        """Whether nodes run it, so that it is never on a volume or a device of this worker."""
        return bool(self.url)

    @field_validator("url", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("url")
    @classmethod
    def _are_urls_of_nodes(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """Without query and credentials: what is secret goes into a variable."""
        try:
            found = [split_url(url) for url in given]
        except InvalidInput as exc:
            raise ValueError(exc.message) from None
        if any("?" in url.path for url in found):
            raise ValueError("a node's url has no query; name the variable with its token in token_env")
        return tuple(str(url).rstrip("/") for url in found)

    @model_validator(mode="before")
    @classmethod
    def _no_token(cls, given: Any) -> Any:
        if isinstance(given, dict) and "token" in given:
            raise ValueError("a token does not belong into a file; set a variable, and give its name as token_env")
        return given

    @model_validator(mode="after")
    def _token_of_nodes(self) -> Self:
        if self.token_env and not self.url:
            raise ValueError("token_env is the nodes' token, and url names none")
        return self

    @model_validator(mode="after")
    def _pinned_to_a_commit(self) -> Self:
        if self.pinned and not COMMIT.fullmatch(self.revision):
            raise ValueError(f"revision '{self.revision}' is not a commit, so it cannot be pinned")
        return self


class Catalog:
    """The models of one worker, first come first chosen."""

    def __init__(self, entries: list[Entry], *, allow_any: bool = False) -> None:
        self.entries = entries
        self.local = [e for e in entries if not e.is_remote]
        """The models that this worker loads itself."""
        self.remote = [e for e in entries if e.is_remote]
        """Those that nodes run."""
        self._allow_any = allow_any

    @classmethod
    def from_settings(cls, settings: Settings) -> "Catalog":
        """`GGML_REPO`, else `MODELS` or the built-in list, narrowed to `PIPELINE` and `MODEL_ID` where they are set.

        Raises:
            InvalidInput: the file is not a list of models, or the variables name two.
        """
        options = _ggml_options(settings)
        entries = [_with_options(e, options) for e in _listed(settings)]
        for entry in entries:
            _say_unused(entry.full_id, *switched_on(entry.optimization_flags))
        if settings.pipeline:
            entries = [e for e in entries if e.pipeline == settings.pipeline]
        if settings.model_id:
            known = [e.model_copy(update={"warm": True}) for e in named(entries, settings.model_id)]
            entries = known or [_with_options(_single(settings.pipeline, settings.model_id), options)]
        return cls(entries, allow_any=settings.allow_any_model)

    def pipelines(self) -> list[str]:
        """The pipelines that have a model, in the list's order."""
        return list(dict.fromkeys(e.pipeline for e in self.entries))

    def resolve(self, pipeline: str, model_id: str | None) -> Entry:
        """The entry for a job.

        Raises:
            UnknownModel: the catalog has no such model.
        """
        offered = [e for e in self.entries if e.pipeline == pipeline]
        if found := offered if model_id is None else named(offered, model_id):
            return found[0]
        if self._allow_any and model_id and _is_of_the_hub(model_id):
            return Entry(pipeline=pipeline, model_id=model_id, pinned=False)
        names = ", ".join(e.full_id for e in offered) or "none"
        asked = f"model_id '{model_id[:64]}' is not" if model_id else f"no model for '{pipeline}' is"
        raise UnknownModel(f"{asked} in this worker's catalog; it has: {names}")


def _is_of_the_hub(model_id: str) -> bool:
    """Whether an id may be that of a model, or of one file, of the hub, and can be on a volume."""
    if any(len(name.encode()) > MAX_NAME for name in model_id.split("/")):
        return False
    return bool(HUB_ID.fullmatch(model_id) or IN_REPOSITORY.fullmatch(model_id))


def named(entries: Sequence[Entry], model_id: str) -> list[Entry]:
    """The entries that an id means: those of this very model, else those of one file of this repository."""
    return [e for e in entries if e.full_id == model_id] or [e for e in entries if e.model_id == model_id]


def read(path: Path) -> list[Entry]:
    """The entries of a models.json.

    Raises:
        InvalidInput: naming the first thing that is wrong in it.
    """
    try:
        return TypeAdapter(list[Entry]).validate_python(json.loads(path.read_text()))
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path.name}: {f'entry {where}: ' if where else ''}{first['msg']}") from exc
    except OSError as exc:
        raise InvalidInput(f"{path.name} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"{path.name} cannot be read as JSON: it is not UTF-8") from exc
    except ValueError as exc:
        raise InvalidInput(f"{path.name} cannot be read as JSON: {exc}") from exc


@cache
def _say_unused(model_id: str, *flags: str) -> None:
    """Once a process, though its list is read several times."""
    if flags:
        logs.logger.warning(
            "optimization_flags have no effect here: %s", ", ".join(flags), extra={"fields": {"model": model_id}}
        )


def _single(pipeline: str | None, model_id: str) -> Entry:
    if pipeline is None:
        raise InvalidInput(f"MODEL_ID={model_id} is in no catalog entry; set PIPELINE too")
    return Entry(pipeline=pipeline, model_id=model_id, warm=True, pinned=False)


def _listed(settings: Settings) -> list[Entry]:
    """The list of one that `GGML_REPO` and `GGML_FILE` make, or a models.json."""
    if not settings.ggml_repo:
        if settings.ggml_file:
            raise InvalidInput("GGML_FILE is set without GGML_REPO, the hub id or folder that has it")
        return read(settings.models or BUILT_IN)
    if ".." in Path(settings.ggml_file or "").parts:
        raise InvalidInput("GGML_FILE leaves its repository")
    if settings.model_id or settings.pipeline not in (None, TEXT_GENERATION):
        raise InvalidInput("GGML_REPO names the model of a text-generation worker; unset PIPELINE and MODEL_ID")
    files = (settings.ggml_file,) if settings.ggml_file else ()
    return [
        Entry(
            pipeline=TEXT_GENERATION,
            model_id=settings.ggml_repo,
            revision=settings.ggml_revision,
            files=files,
            warm=True,
        )
    ]


def _ggml_options(settings: Settings) -> dict[str, Any]:
    layers = None if settings.ggml_layers == -1 else settings.ggml_layers
    given = {"gpu_layers": layers, "context": settings.ggml_context, "slots": settings.ggml_parallel}
    return {name: value for name, value in given.items() if value is not None}


def _with_options(entry: Entry, options: dict[str, Any]) -> Entry:
    """The entry as this machine loads it: the variables beat what the list says."""
    if entry.pipeline != TEXT_GENERATION:
        return entry
    return entry.model_copy(update={"options": {**entry.options, **options}})
