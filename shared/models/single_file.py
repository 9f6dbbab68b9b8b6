"""Checkpoints in one safetensors file, as Dreambooth and most custom models come: what they are, and loading them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import logs
from shared.errors import ModelUnavailable
from shared.models.safetensors_header import read_header
from shared.schemas import ModelSource

SUFFIX = ".safetensors"
UNET = "model.diffusion_model."
FIRST_CONVOLUTION = UNET + "input_blocks.0.0.weight"  # out, in, height, width
VAES = ("first_stage_model.", "vae.")
INDEX = "model_index.json"


@dataclass(frozen=True)
class Kind:
    """An architecture that comes in one file, and the repository whose configuration fits it."""

    name: str
    class_name: str
    configuration: str


SD1 = "Stable Diffusion 1", "cond_stage_model.transformer."
SD2 = "Stable Diffusion 2", "cond_stage_model.model."
SDXL = "Stable Diffusion XL", "conditioner.embedders.1."

# By the text encoder's prefix, and the channels that the UNet takes: 4 of noise, 4 more of a picture that it changes.
KINDS: dict[tuple[tuple[str, str], int], Kind] = {
    (SD1, 4): Kind(SD1[0], "StableDiffusionPipeline", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    (SD1, 8): Kind("InstructPix2Pix", "StableDiffusionInstructPix2PixPipeline", "timbrooks/instruct-pix2pix"),
    (SD2, 4): Kind(SD2[0], "StableDiffusionPipeline", "stabilityai/stable-diffusion-2-1"),
    (SDXL, 4): Kind(SDXL[0], "StableDiffusionXLPipeline", "stabilityai/stable-diffusion-xl-base-1.0"),
}
INPAINTING_CHANNELS = 9


def kind_of(path: Path) -> Kind:
    """What a file holds, by the names and shapes in its header.

    Raises:
        ModelUnavailable: the file is damaged, or holds nothing that a pipeline here runs.
    """
    if path.suffix != SUFFIX:
        raise _unfit(path, f"only {SUFFIX} files are read, and never pickles, which can run programs")
    return _kind(path, read_header(path))


def is_configuration_file(name: str) -> bool:
    """Whether a file of `Kind.configuration`, by its path in the repository, is needed beside a single file."""
    *folders, last = name.split("/")
    if len(folders) > 1 or last.endswith(".index.json"):
        return False
    return name == INDEX or (bool(folders) and last.endswith((".json", ".txt", ".model")))


def load(source: ModelSource, dtype: Any) -> Any:
    """The file as a diffusers pipeline on the CPU; never asks the network.

    Raises:
        ModelUnavailable: the file is damaged or of no known kind, or its configuration is not on the volume.
    """
    import diffusers

    shapes = read_header(source.path)
    kind = _kind(source.path, shapes)
    folder = configuration(source, kind)
    revision = source.options.get("config_revision")  # None where the user put it there
    logs.stage("configuration", "models", model=source.model_id, of=kind.configuration, revision=revision)
    pipe = getattr(diffusers, kind.class_name).from_single_file(
        str(source.path), config=str(folder), dtype=dtype, local_files_only=True
    )
    if "v_pred" in shapes:  # how trainers of SDXL mark it, with a tensor of no length
        more = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": "ztsnr" in shapes}
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **more)
    return pipe


def configuration_beside(path: Path) -> Path | None:
    """The folder of the configuration that lies beside a file: named as the file, around it, or, in a Hugging Face
    cache, at the top of its snapshot."""
    top = (folder for folder in path.parents if folder.parent.name == "snapshots")
    folders = (path.with_suffix(""), path.parent, *top)
    return next((folder for folder in folders if (folder / INDEX).is_file()), None)


def configuration(source: ModelSource, kind: Kind) -> Path:
    """The folder of the configuration: the one that `options` name, or the one beside the file.

    Raises:
        ModelUnavailable: there is none; it says which one to put where.
    """
    named = source.options.get("config")
    folder = source.path.parent / str(named) if named else configuration_beside(source.path)
    if folder and (folder / INDEX).is_file():
        return folder
    raise lacking(source, kind)


def lacking(source: ModelSource, kind: Kind) -> ModelUnavailable:
    """The error of a file without its configuration: which one it needs, and where to put it."""
    asked = "the folder that `options` name has none" if "config" in source.options else "there is none beside it"
    return ModelUnavailable(
        f"{source.path.name} is {kind.name}, and needs its configuration: {asked}. Put the .json and .txt files of "
        f"{kind.configuration}, in their folders, into a folder named {source.path.stem} beside the file"
    )


def _kind(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Kind:
    first = shapes.get(FIRST_CONVOLUTION)
    if first is None or len(first) != 4:
        raise _unfit(path, "it has no UNet of Stable Diffusion; a LoRA or a VAE alone is no model")
    text = next((known for known in (SD1, SD2, SDXL) if any(name.startswith(known[1]) for name in shapes)), None)
    if text is None:
        raise _unfit(path, "it has no text encoder of Stable Diffusion 1, 2 or XL")
    if not any(name.startswith(VAES) for name in shapes):
        raise _unfit(path, "it has no VAE")
    channels = first[1]
    if kind := KINDS.get((text, channels)):
        return kind
    what = "an inpainting model" if channels == INPAINTING_CHANNELS else f"one whose UNet takes {channels} channels"
    raise _unfit(path, f"it is {text[0]}, {what}; no pipeline here runs it")


def _unfit(path: Path, reason: str) -> ModelUnavailable:
    return ModelUnavailable(f"{path.name} cannot be used: {reason}")
