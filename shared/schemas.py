"""What a handler is made of: its parameters, its declaration, and the context that its run is given."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from shared.device import Device
    from shared.media.video_file import VideoFile

ImageFormat = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: dict[ImageFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
Kind = Literal["image", "video", "text"]
MAX_SEED = 2**32 - 1


class Params(BaseModel):
    """A handler's parameters: descriptions and bounds are the API reference; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    OTHER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Names by which other APIs call a parameter, and the parameter's own."""

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, given: Any) -> Any:
        return cls.canonical(given) if isinstance(given, dict) else given

    @classmethod
    def canonical(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """What is set, under the parameters' own names.

        Raises:
            ValueError: a parameter is given under two names.
        """
        own: dict[str, Any] = {}
        for name, value in given.items():
            if value is None:
                continue
            known = cls.OTHER_NAMES.get(name, name)
            if known in own:
                names = [known, *(other for other, its in cls.OTHER_NAMES.items() if its == known)]
                raise ValueError(
                    f"{' and '.join(n for n in names if n in given)} are one parameter; give one of them"
                )
            own[known] = value
        return own

    def as_record(self) -> dict[str, Any]:
        """The parameters as a receipt holds them: media by hash, not by content."""
        return {name: _record(getattr(self, name)) for name in type(self).__pydantic_fields__}


def _record(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_record(v) for v in value]
    if isinstance(value, dict):
        return {name: _record(v) for name, v in value.items()}
    if isinstance(value, BaseModel) and not hasattr(value, "as_record"):
        return value.model_dump(mode="json", exclude_none=True)
    return value.as_record() if hasattr(value, "as_record") else value


class ModelParams(Params):
    """The parameters of a pipeline that runs a model."""

    model_id: str | None = Field(None, description="A model of this worker's catalog; its first one when not given.")


@dataclass(frozen=True)
class ModelSource:
    """A model on disk: `path` is a folder in diffusers or transformers format, or one file.

    `options` say how it is to be loaded, in the words of the library that loads it.
    """

    model_id: str
    revision: str
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """One thing that a run made, before it is encoded."""

    image: "Image"
    seed: int | None = None
    nsfw: bool = False
    params: Params | None = None  # of the nested run that made it, which say how it is encoded


@dataclass(frozen=True)
class MadeVideo:
    """A video that a nested run made, every pixel as it was written."""

    video: "VideoFile"
    seed: int | None = None
    nsfw: bool = False
    params: Params | None = None


class FrameSink(Protocol):
    """Takes the frames of a video, one by one."""

    def write(self, pixels: "NDArray[np.uint8]") -> None:
        """Add a frame: RGB, (height, width, 3). Waits while the encoder is more than a few frames behind.

        Raises:
            ResultTooLarge: the file is larger already than anything that can carry it; let it pass.
        """


class Context(Protocol):
    """What `run` may do besides computing: report, and emit outputs as they are made."""

    def step(self, step: int, steps: int, preview: "Callable[[], Image] | None" = None) -> None:
        """Report that `step` of `steps` is done, and stop here when the job was told to stop.

        Call it at least once a second where the work allows: between two calls nothing can stop the job.
        `preview` is called only when a picture is wanted now.

        Raises:
            Cancelled, DeadlineExceeded: let them pass.
        """

    def image(self, image: "Image", *, seed: int | None = None, nsfw: bool = False) -> None:
        """Emit an image; it is encoded beside the device."""

    def video(
        self,
        width: int,
        height: int,
        fps: Fraction,
        *,
        audio: "VideoFile | None" = None,
        seed: int | None = None,
        nsfw: bool = False,
    ) -> AbstractContextManager[FrameSink]:
        """Emit a video: `with ctx.video(...) as out: out.write(frame)`; it is encoded beside the device.

        `audio` is the video whose sound it takes over. The video counts once the block has ended well.
        """

    def expect(self, foretell: Callable[[], int]) -> None:
        """Foretell the bytes of the outputs, where that takes the model; asked only where there is a limit.

        Raises:
            ResultTooLarge: nobody could carry them; let it pass.
        """

    def emit(self, made: "Made | MadeVideo") -> None:
        """Emit what a nested run made, in the file format that its own parameters ask for."""

    def keep(self, step: int, made: "list[Made | MadeVideo]") -> None:
        """Deliver what a step made at once, beside the device, so that it stays whatever becomes of the job."""

    def check(self) -> None:
        """Stop here when the job was told to stop; for work that has no steps to report.

        Raises:
            Cancelled, DeadlineExceeded: let them pass.
        """

    def text(self, piece: str, *, most: int | None = None) -> None:
        """Emit the next piece of a text, and stop here when the job was told to stop. Never waits.

        A piece ends between two characters; what a later piece may take back must not be in it. `most` is how many
        pieces there may be in all, for the worker to know how long it is busy at most.

        Raises:
            Cancelled, DeadlineExceeded: let them pass.
        """

    def finish(self, reason: str, usage: Mapping[str, int]) -> None:
        """Say why the text ended (`stop`, `length`), and how many tokens it took, as OpenAI counts them."""

    def answer(self, body: Mapping[str, Any]) -> None:
        """Emit the whole result in the shape of another API; it takes the place of the result's own fields."""

    def note(self, **facts: Any) -> None:
        """Add facts about this run to the result's `metrics`."""

    def effective(self, **params: Any) -> None:
        """Say what was really run where it differs from what was asked, such as a drawn seed; for the receipt."""

    def run(
        self, pipeline: str, params: dict[str, Any], *, span: tuple[float, float] | None = None
    ) -> "list[Made | MadeVideo]":
        """Run another pipeline on the device that this job holds, and return what it made.

        `span` is the share of this run that it is, such as (0.5, 1.0), for the progress; without it, its steps are
        not told.
        """


Run = Callable[[Any, Any, Context], Iterator[str] | None]


@dataclass(frozen=True)
class Handler:
    """A pipeline, declared: the last line of a handler file.

    `load(source, device)` returns the model ready on the device; None for a pipeline without a model. Handlers that
    name the same function share the warm model. `to_device(model, device)` moves a model there that `load` read on
    the CPU for a device of that kind (`Device.bound_for`), without asking for one; where it is None, the model is
    loaded once the device is there. `warmup` holds parameters for one small run after loading.
    `validate(params, planning)` may check more than pydantic can, before anything runs, and plan what the run is to
    call. `output` says what a run makes; `chains`, that jobs name the pipelines which it runs.
    `check(params)` judges what was fetched, before the job has the device; `expected_bytes(params, between)`
    foretells what the outputs will take, so that a job whose result nobody could carry is refused there too: it calls
    `between` now and then, which may raise.

    With `stream` the run emits text, piece by piece, by `ctx.text` or as a generator; a parameter `stream` that is
    false keeps the pieces back until the end. With `concurrent` several jobs may use the model at once: as many as
    its `slots` say. Without `torch` a worker does not import it. `openai` runs what comes by OpenAI's API; its
    parameters are an `openai.Request`.
    """

    params: type[Params]
    run: Run
    load: "Callable[[ModelSource, Device], Any] | None" = None
    to_device: "Callable[[Any, Device], Any] | None" = None
    stream: bool = False
    warmup: dict[str, Any] | None = None
    validate: "Callable[[Any, Planning], None] | None" = None
    output: Callable[[Any], Kind] = lambda params: "image"
    chains: bool = False
    check: Callable[[Any], None] | None = None
    expected_bytes: Callable[[Any, Callable[[], None]], int] | None = None
    concurrent: bool = False
    torch: bool = True
    openai: "Handler | None" = None


class Planning(Protocol):
    """What a pipeline that is to run others may ask before it runs."""

    def handler(self, pipeline: str) -> Handler:
        """The handler of another pipeline.

        Raises:
            NotFound: naming the pipelines there are.
        """

    def plan(self, pipeline: str, params: dict[str, Any]) -> Params:
        """The parameters of a run to come, checked; its model will be on disk before the job has the device.

        Raises:
            InvalidInput, NotFound: it could not run.
        """


class Registry(Protocol):
    """Where the runner finds handlers by pipeline name."""

    def names(self) -> list[str]:
        """The pipelines there are, sorted."""

    def get(self, name: str) -> Handler:
        """The handler of a pipeline.

        Raises:
            NotFound: naming the pipelines there are.
        """


@dataclass(frozen=True)
class Output:
    """One finished output of a job: encoded, hashed, and what it shows; `pixels` are those of all frames."""

    data: bytes = field(repr=False)
    media_type: str
    extension: str
    sha256: str
    pixels_sha256: str | None
    pixels: int
    seed: int | None
    nsfw: bool
    frames: int | None = None
    fps: float | None = None

    @property
    def is_video(self) -> bool:
        """Whether it stands under `videos` in a result."""
        return self.frames is not None

    def as_dict(self, url: "str | Output") -> dict[str, Any]:
        """The output as the result shows it; `url` is the output itself where it is to be written by who answers."""
        shown = {"url": url, "seed": self.seed, "nsfw": self.nsfw}
        return {**shown, "frames": self.frames, "fps": self.fps} if self.is_video else shown


def of_media(outputs: Sequence[Output], urls: Sequence[str | Output]) -> dict[str, Any]:
    """The fields of a result that show pictures and videos; none where there are none."""
    shown = list(zip(outputs, urls, strict=True))
    images = [output.as_dict(url) for output, url in shown if not output.is_video]
    videos = [output.as_dict(url) for output, url in shown if output.is_video]
    return {**({"images": images} if images else {}), **({"videos": videos} if videos else {})}


class Envelope(BaseModel):
    """The keys of `input` that are not a handler's parameters."""

    model_config = ConfigDict(frozen=True)

    pipeline: str | None = None
    delivery: dict[str, Any] | None = None
    fallbacks: dict[str, Any] = Field(default_factory=dict)  # where neither the job nor the model gives a parameter
    details: bool = False
    openai_route: str | None = None
    openai_input: Any = None

    @classmethod
    def split(cls, given: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Take the envelope's keys out of `given`; the rest are parameters."""
        own = cls.__pydantic_fields__
        rest = {k: v for k, v in given.items() if k not in own}
        return cls(**{k: v for k, v in given.items() if k in own and v is not None}), rest
