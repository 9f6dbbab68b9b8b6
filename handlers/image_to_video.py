"""Set a picture in motion."""

import secrets
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, Self

from PIL import Image
from pydantic import Field, model_validator

from shared.errors import InvalidInput
from shared.media.frames import Pixels
from shared.media.framing import Fit, framed
from shared.media.image import ImageInput, read_image
from shared.media.video import VideoParams
from shared.models.image_to_video import ImageToVideo
from shared.models.video_families import BY_PROMPT, MOST_FRAMES, family_of
from shared.schemas import MAX_SEED, Context, Handler, ImageFormat, MadeVideo, ModelSource, Planning

if TYPE_CHECKING:
    from shared.device import Device
    from shared.models.prompted_video import PromptedVideo

BETWEEN = "frame-interpolation"
DRAWING = 0.8  # of the progress, where frames are drawn between those of the model
TOLD = ("num_frames", "num_inference_steps", "fps")
BY_STRENGTH = ("motion_bucket_id", "noise_aug_strength", "min_guidance_scale", "max_guidance_scale")


class ImageToVideoParams(VideoParams):
    """What a picture is to become."""

    image: ImageInput = Field(description="The picture that the video begins with.")
    height: int = Field(576, ge=64, le=2048, multiple_of=8, description="Height of the frames that the model draws.")
    width: int = Field(1024, ge=64, le=2048, multiple_of=8, description="Width of the frames that the model draws.")
    fit: Fit = Field(
        "crop",
        description="How the picture comes to that shape: its middle, or the whole of it between bars that the model "
        "sees and the result does not have.",
    )
    num_frames: int | None = Field(
        None,
        ge=2,
        le=MOST_FRAMES,
        description="Frames that the model draws, by default as many as it was trained for. Stable Video Diffusion "
        "draws at most 50, LTX-Video a multiple of 8 and one, Wan a multiple of 4 and one.",
    )
    fps: int = Field(
        6,
        ge=1,
        le=30,
        description="Frames a second; the model is told, but for Wan's. Where it is not given, LTX-Video has 25, "
        "Wan 16 or 24.",
    )
    prompt: str | None = Field(
        None, max_length=8000, description="What is to happen in the picture; LTX-Video and Wan only."
    )
    negative_prompt: str | None = Field(None, max_length=8000, description="What is not to happen; as `prompt`.")
    guidance_scale: float | None = Field(
        None, ge=0, le=20, description="How closely to follow the prompt, by default the family's; as `prompt`."
    )
    motion_bucket_id: int = Field(
        127, ge=1, le=255, description="How much moves: more is more. Stable Video Diffusion only."
    )
    noise_aug_strength: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Noise added to the picture: more is more motion, and less like it; as `motion_bucket_id`.",
    )
    num_inference_steps: int = Field(25, ge=1, le=150, description="Denoising steps.")
    min_guidance_scale: float = Field(
        1.0, ge=0, le=20, description="How closely the first frame is to follow; as `motion_bucket_id`."
    )
    max_guidance_scale: float = Field(
        3.0, ge=0, le=20, description="How closely the last frame is to follow; as `motion_bucket_id`."
    )
    decode_chunk_size: int | None = Field(
        None,
        ge=1,
        le=50,
        description="Frames decoded at once: more flicker less; by free memory by default; as `motion_bucket_id`.",
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Drawn and answered when not given.")
    safety_check: bool = Field(
        True, description="Changes nothing: these models bring no checker. Taken since Livepeer's clients send it."
    )
    interpolate: int = Field(0, ge=0, le=15, description="New frames between two of the model's.")
    target_fps: float | None = Field(
        None, ge=1, le=120, description="Frames a second of the result, drawn between the model's."
    )
    output: Literal["video", "frames"] = Field("video", description="A video, or each frame as an image.")
    image_format: ImageFormat = Field("png", description="File format of the frames, where they are the output.")
    preview: bool = Field(False, description="Send a small picture along with the progress.")

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.min_guidance_scale > self.max_guidance_scale:
            raise ValueError("min_guidance_scale must be at most max_guidance_scale")
        if self.interpolate and self.target_fps is not None:
            raise ValueError("interpolate and target_fps say the same; give one of them")
        try:
            self.encoding().check_rate(self.result_fps)
        except InvalidInput as exc:
            raise ValueError(exc.message) from None
        return self

    @property
    def between(self) -> dict[str, Any]:
        """What frame-interpolation is told, besides the frames; nothing where it is not asked for."""
        if self.target_fps is not None:
            return {"fps": self.fps, "target_fps": self.target_fps, "scene_cut": False}
        return {"fps": self.fps, "in_between": self.interpolate, "scene_cut": False} if self.interpolate else {}

    @property
    def result_fps(self) -> Fraction:
        """Frames a second of what comes out."""
        if self.target_fps is not None:
            return Fraction(self.target_fps).limit_denominator(1001)
        return Fraction(self.fps * (self.interpolate + 1))


def load(source: ModelSource, device: "Device") -> "ImageToVideo | PromptedVideo":
    """The checkpoint by its family, warm on its device.

    Raises:
        ModelUnavailable: it is of no family here, or its files cannot be read.
    """
    from shared.models import image_to_video, ltx_video, wan_video

    family = family_of(source)
    if family.kind == "stable-video-diffusion":
        return image_to_video.load(source, device)
    animator = ltx_video.LtxVideo if family.kind == "ltx" else wan_video.WanVideo
    return animator.load(source, family, device)


def to_device(model: "ImageToVideo | PromptedVideo", device: "Device") -> "ImageToVideo | PromptedVideo":
    """The model, which was read for such a device, on it."""
    return model.to_device(device)


def run(model: "ImageToVideo | PromptedVideo", params: ImageToVideoParams, ctx: Context) -> None:
    """Denoise all frames together, decode them piece by piece, draw others between them where that is asked."""
    given, steps = params.model_fields_set, params.num_inference_steps
    model.family.check(model.source.model_id, given, params.num_frames, steps)
    chosen = _chosen(model, params)
    params = params.model_copy(update=chosen)
    params.encoding().check_rate(params.result_fps)
    ctx.effective(**chosen)
    ctx.note(safety_checked=False)
    picture = framed(read_image(params.image), params.width, params.height, params.fit)
    share = DRAWING if params.between else 1.0
    seed = chosen["seed"]
    drawn = model.animate(picture.image, seed, ctx, share=share, preview=params.preview, **_told(model, params))
    frames: Iterable[Pixels] = (picture.cut(pixels) for pixels in drawn)
    if params.between:
        images = [Image.fromarray(pixels) for pixels in frames]
        made = ctx.run(BETWEEN, {"images": images, **params.between}, span=(share, 1.0))
        frames = (frame.pixels for one in made if isinstance(one, MadeVideo) for frame in one.video.frames())
    emit(frames, picture.size, seed, params, ctx)


def _chosen(model: "ImageToVideo | PromptedVideo", params: ImageToVideoParams) -> dict[str, Any]:
    """What the job left open, as the model has it; what only other families take is nothing."""
    seed = secrets.randbelow(MAX_SEED) if params.seed is None else params.seed
    chosen = {"seed": seed, "num_frames": params.num_frames or model.num_frames}
    if isinstance(model, ImageToVideo):
        at_once = params.decode_chunk_size or model.frames_at_once(params.width, params.height)
        return {**chosen, "decode_chunk_size": at_once}
    family, scale = model.family, params.guidance_scale
    return {
        **chosen,
        "fps": params.fps if "fps" in params.model_fields_set else family.fps,
        "guidance_scale": family.guidance_scale if scale is None else scale,
        **{name: getattr(params, name) or "" for name in ("prompt", "negative_prompt")},
        **dict.fromkeys(family.foreign),
    }


def _told(model: "ImageToVideo | PromptedVideo", params: ImageToVideoParams) -> dict[str, Any]:
    """What its pipeline is told."""
    if isinstance(model, ImageToVideo):
        told = {name: getattr(params, name) for name in (*TOLD, *BY_STRENGTH)}
        return {**told, "at_once": params.decode_chunk_size}
    return {name: getattr(params, name) for name in (*TOLD, *BY_PROMPT)}


def emit(
    frames: Iterable[Pixels], size: tuple[int, int], seed: int, params: ImageToVideoParams, ctx: Context
) -> None:
    """The frames as a video, or one by one."""
    if params.output == "frames":
        for pixels in frames:
            ctx.image(Image.fromarray(pixels), seed=seed)
        return
    with ctx.video(*size, params.result_fps, seed=seed) as out:
        for pixels in frames:
            out.write(pixels)


def validate(params: ImageToVideoParams, planning: Planning) -> None:
    """Have the model on disk that draws frames in between, where they are wanted."""
    if params.between:
        planning.plan(BETWEEN, {"images": [ImageInput.to_come(), ImageInput.to_come()], **params.between})


handler = Handler(
    params=ImageToVideoParams,
    load=load,
    to_device=to_device,
    run=run,
    validate=validate,
    output=lambda params: "image" if params.output == "frames" else "video",
    warmup={
        "image": Image.new("RGB", (64, 64)),
        "width": 64,
        "height": 64,
        "num_frames": 9,  # 2 * 4 + 1 and 8 + 1: every family draws so many
        "num_inference_steps": 2,
    },
)
