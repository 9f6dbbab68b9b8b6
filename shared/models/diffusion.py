"""Diffusion checkpoints, in parts or in one file: loaded once, each job a pipeline of its own over the parts."""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from shared import logs
from shared.device import classify
from shared.errors import InvalidInput, JobError, ModelUnavailable
from shared.models import pickles, placing, readahead, safetensors_header, single_file
from shared.models.stages import Stages
from shared.schemas import Context, ModelSource

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.device import Device, Kind

Task = Literal["text-to-image", "image-to-image"]

# By diffusers class name; all sample a UNet of the epsilon or v prediction type. LMSDiscreteScheduler wants scipy.
Scheduler = Literal[
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
]
SCHEDULERS: tuple[str, ...] = get_args(Scheduler)


# What a scheduler is told where the checkpoint's own one does not know the setting: latents are not clipped as pixels
# are, and PNDM starts without Runge-Kutta steps, as in every Stable Diffusion checkpoint.
FOR_LATENTS = {"clip_sample": False, "skip_prk_steps": True}


@dataclass(frozen=True)
class Family:
    """What the checkpoints of one architecture can do, and which arguments their pipelines take."""

    classes: dict[Task, str]
    prompts: int = 1  # text encoders that take a prompt of their own
    strength: bool = True
    image_guidance: bool = False


# By `_class_name` in model_index.json; a new architecture is a new row. Not StableDiffusionXLInstructPix2PixPipeline:
# diffusers 0.42 gives it no `callback_on_step_end`, so nothing could stop it.
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(
        {"text-to-image": "StableDiffusionPipeline", "image-to-image": "StableDiffusionImg2ImgPipeline"}
    ),
    "StableDiffusionXLPipeline": Family(
        {"text-to-image": "StableDiffusionXLPipeline", "image-to-image": "StableDiffusionXLImg2ImgPipeline"},
        prompts=2,
    ),
    "StableDiffusionInstructPix2PixPipeline": Family(
        {"image-to-image": "StableDiffusionInstructPix2PixPipeline"}, strength=False, image_guidance=True
    ),
}

# Distilled without classifier-free guidance: any other scale spoils the picture (model cards of both).
GUIDANCE_FREE = frozenset({"sd-turbo", "sdxl-turbo"})  # a part of an id, or of a folder's path


@dataclass
class Diffusion:
    """A checkpoint, warm on its device: the parts, shared by the pipelines of every job, and its pipeline's flags."""

    source: ModelSource
    family: Family
    parts: dict[str, Any] = field(repr=False)
    flags: dict[str, Any]
    device: "Device"
    loading: dict[str, Any] = field(default_factory=dict)  # seconds and bytes by stage

    @property
    def guided(self) -> bool:
        """Whether the model takes classifier-free guidance at all."""
        return GUIDANCE_FREE.isdisjoint(self.source.model_id.split("/"))

    def pipeline(self, task: Task, scheduler: str | None, steps: int, *, safety_check: bool = True) -> Any:
        """A diffusers pipeline for one job, with a scheduler object of its own over the shared parts.

        Raises:
            InvalidInput: the model cannot do the task, or cannot be sampled by that scheduler in so many steps.
        """
        import diffusers

        name = self.family.classes.get(task)
        if name is None:
            raise InvalidInput(f"model '{self.source.model_id}' does not do {task}")
        task_class = getattr(diffusers, name)
        accepted = inspect.signature(task_class.__init__).parameters
        own = {flag: value for flag, value in self.flags.items() if flag in accepted}
        own["scheduler"] = self._scheduler(scheduler, steps)
        if "safety_checker" in self.parts:
            checker = self.parts["safety_checker"] if safety_check else None
            own |= {"safety_checker": checker, "requires_safety_checker": checker is not None}
        pipe = task_class(**{**self.parts, **own})
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def has_safety_checker(self) -> bool:
        """Whether the checkpoint brings a checker of its own."""
        return self.parts.get("safety_checker") is not None

    def to_device(self, device: "Device") -> Self:
        """The checkpoint, which was read for such a device, on it."""
        return replace(self, device=device, loading=placing.move(self.parts.values(), device))

    def split_prompt(self, field_name: str, text: str) -> dict[str, str]:
        """`a | b` as the arguments prompt and prompt_2, where the model has an encoder for each."""
        if self.family.prompts == 1:
            return {field_name: text}
        pieces = [piece.strip() for piece in text.split("|", self.family.prompts - 1)]
        return {field_name if n == 0 else f"{field_name}_{n + 1}": piece for n, piece in enumerate(pieces)}

    def _scheduler(self, name: str | None, steps: int) -> Any:
        import diffusers

        base = self.parts["scheduler"]
        chosen = type(base) if name is None else getattr(diffusers, name)
        try:
            scheduler = chosen.from_config({**FOR_LATENTS, **base.config})
            scheduler.set_timesteps(steps)
        except (ValueError, NotImplementedError) as exc:
            what = f"'{self.source.model_id}' in {steps} steps"
            raise InvalidInput(f"scheduler {chosen.__name__} cannot sample {what}; choose another") from exc
        return scheduler


def load(source: ModelSource, device: "Device") -> Diffusion:
    """Read a checkpoint, in diffusers format or in one safetensors file, and place it on the device.

    On a network volume its weights are read ahead while the libraries are imported.

    Raises:
        ModelUnavailable: its architecture is not one of ours, or its files cannot be read.
    """
    class_name = class_of(source)
    family = FAMILIES.get(class_name)
    if family is None:
        raise ModelUnavailable(f"'{source.model_id}' is a {class_name}; there are: {', '.join(FAMILIES)}")
    pipe, loading = read(source, class_name, device)
    parts = dict(pipe.components)
    # such as SDXL's force_zeros_for_empty_prompt, which changes pictures
    flags = {name: value for name, value in pipe.config.items() if name not in parts and not name.startswith("_")}
    return Diffusion(source, family, parts, flags, device, loading)


def class_of(source: ModelSource) -> str:
    """The diffusers class that a checkpoint is for, by its index or its weights' names; imports nothing.

    Raises:
        ModelUnavailable: it is none.
    """
    with _naming(source):
        if not source.path.is_dir():
            return single_file.kind_of(source.path).class_name
        name: str = json.loads((source.path / single_file.INDEX).read_text())["_class_name"]
        return name


def read(source: ModelSource, class_name: str, device: "Device") -> tuple[Any, dict[str, Any]]:
    """A checkpoint's pipeline on the device, and what its loading took: seconds and bytes by stage.

    Raises:
        ModelUnavailable: its files are damaged or not allowed, or diffusers cannot read them.
    """
    stages = Stages()
    pickled = _checked(source)
    files = readahead.weights(source.path, half=device.runs_on != "cpu")
    readahead.begin(files)
    with stages.measure("imports"):
        _import(class_name)
    with stages.measure("read_ahead"):
        ahead = readahead.finish(files)
    try:
        with _naming(source), stages.measure("files"):
            for file in pickled:
                pickles.check_content(file)
            pipe = _read(source, class_name, device, use_safetensors=None if pickled else True)
        with stages.measure("to_device"):
            pipe = pipe.to(device.kind)
            if device.bound_for:
                placing.keep(pipe.components.values())
    except JobError:
        raise
    except Exception as exc:
        if classify(exc):
            raise
        logs.logger.warning("a model cannot be loaded", exc_info=True, extra={"fields": {"model": source.model_id}})
        raise ModelUnavailable(f"the files of '{source.model_id}' cannot be loaded: {type(exc).__name__}") from exc
    return pipe, {**stages.seconds, "read_ahead_bytes": ahead.bytes}


def _checked(source: ModelSource) -> list[Path]:
    """The allowed pickles of a checkpoint whose weights are whole by their headers."""
    if not source.path.is_dir():
        return []
    with _naming(source):
        safetensors_header.check_folder(source.path)
        return pickles.needed(source)


@contextmanager
def _naming(source: ModelSource) -> Iterator[None]:
    """Say of which model the files cannot be loaded."""
    try:
        yield
    except ModelUnavailable as exc:
        message = f"the files of '{source.model_id}' cannot be loaded: {exc.message}"
        raise ModelUnavailable(message, **exc.detail) from exc


def _import(class_name: str) -> None:
    """Import the libraries and the pipeline's class: most of a cold start."""
    import diffusers

    _quiet()
    getattr(diffusers, class_name)


def _read(source: ModelSource, class_name: str, device: "Device", *, use_safetensors: bool | None) -> Any:
    import diffusers

    if not source.path.is_dir():
        return single_file.load(source, device.dtype)
    return getattr(diffusers, class_name).from_pretrained(
        source.path,
        dtype=device.dtype,
        variant=variant([f.name for f in source.path.glob("*/*.safetensors")], device.runs_on),
        use_safetensors=use_safetensors,  # None: pickles where there are none, with torch's `weights_only`
        local_files_only=True,
        # from the file to the card, without a copy in this machine's memory
        device_map="cuda" if device.kind == "cuda" else None,
    )


def variant(weights: list[str], kind: "Kind") -> str | None:
    """Which files to load, by their names: half precision off the CPU, and where there is nothing else."""
    half = [name for name in weights if ".fp16" in name]
    return "fp16" if half and (kind != "cpu" or len(half) == len(weights)) else None


def _quiet() -> None:
    """Keep the libraries' bars and advice out of the log; their errors are raised."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def generators(seed: int, count: int) -> list[Any]:
    """One generator an image, on the CPU so that every device draws the same noise: image k starts from seed + k."""
    import torch

    return [torch.Generator("cpu").manual_seed(seed + k) for k in range(count)]


def on_step(ctx: Context, *, preview: bool) -> Callable[..., dict[str, Any]]:
    """A diffusers `callback_on_step_end` that reports to the context, which may stop the job there."""

    def report(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        picture = (lambda: peek(pipe, tensors["latents"])) if preview and _can_peek(pipe.vae) else None
        ctx.step(step + 1, pipe.num_timesteps, preview=picture)
        return tensors

    return report


def _can_peek(vae: Any) -> bool:
    """Not in half precision where the checkpoint says that its decoder overflows there, as SDXL's does."""
    import torch

    return not (vae.dtype == torch.float16 and vae.config.get("force_upcast"))


def peek(pipe: Any, latents: Any, longest: int = 32) -> "Image":
    """Decode the first latent, shrunk to `longest` cells a side: (batch, channels, h, w) to a small picture."""
    import torch

    with torch.no_grad():
        first = latents[:1]
        if max(first.shape[-2:]) > longest:
            first = torch.nn.functional.interpolate(first, scale_factor=longest / max(first.shape[-2:]))
        decoded = pipe.vae.decode(first.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor, return_dict=False)[0]
    images: list[Image] = pipe.image_processor.postprocess(decoded, output_type="pil")
    return images[0]
