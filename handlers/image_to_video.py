"""Set a picture in motion."""

import secrets
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal, Self

from PIL import Image
from pydantic import Field, model_validator

from shared.errors import InvalidInput
from shared.media.frames import Pixels
from shared.media.framing import Fit, framed
from shared.media.image import ImageInput, read_image
from shared.media.video import VideoParams
from shared.models.image_to_video import ImageToVideo, load
from shared.schemas import MAX_SEED, Context, Handler, ImageFormat, MadeVideo, Planning

BETWEEN = "frame-interpolation"
DRAWING = 0.8  # of the progress, where frames are drawn between those of the model
TOLD = (
    "num_inference_steps",
    "fps",
    "motion_bucket_id",
    "noise_aug_strength",
    "min_guidance_scale",
    "max_guidance_scale",
)


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
        None, ge=2, le=50, description="Frames that the model draws; by default as many as it was trained for."
    )
    fps: int = Field(6, ge=1, le=30, description="Frames a second; the model is told.")
    motion_bucket_id: int = Field(127, ge=1, le=255, description="How much moves: more is more.")
    noise_aug_strength: float = Field(
        0.02, ge=0, le=1, description="Noise added to the picture: more is more motion, and less like the picture."
    )
    num_inference_steps: int = Field(25, ge=1, le=150, description="Denoising steps.")
    min_guidance_scale: float = Field(1.0, ge=0, le=20, description="How closely the first frame is to follow.")
    max_guidance_scale: float = Field(3.0, ge=0, le=20, description="How closely the last frame is to follow.")
    decode_chunk_size: int | None = Field(
        None, ge=1, le=50, description="Frames decoded at once: more flicker less; by free memory when not given."
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
    preview: bool = Field(False, description="Send a small picture of the first frame along with the progress.")

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


def run(model: ImageToVideo, params: ImageToVideoParams, ctx: Context) -> None:
    """Denoise all frames together, decode them piece by piece, draw others between them where that is asked."""
    seed = secrets.randbelow(MAX_SEED) if params.seed is None else params.seed
    num_frames = params.num_frames or model.num_frames
    at_once = params.decode_chunk_size or model.frames_at_once(params.width, params.height)
    ctx.effective(seed=seed, num_frames=num_frames, decode_chunk_size=at_once)
    ctx.note(safety_checked=False)
    picture = framed(read_image(params.image), params.width, params.height, params.fit)
    share = DRAWING if params.between else 1.0
    told = {"num_frames": num_frames, **{name: getattr(params, name) for name in TOLD}}
    drawn = model.animate(picture.image, seed, ctx, at_once=at_once, share=share, preview=params.preview, **told)
    frames: Iterable[Pixels] = (picture.cut(pixels) for pixels in drawn)
    if params.between:
        images = [Image.fromarray(pixels) for pixels in frames]
        made = ctx.run(BETWEEN, {"images": images, **params.between}, span=(share, 1.0))
        frames = (frame.pixels for one in made if isinstance(one, MadeVideo) for frame in one.video.frames())
    emit(frames, picture.size, seed, params, ctx)


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
    run=run,
    validate=validate,
    output=lambda params: "image" if params.output == "frames" else "video",
    warmup={
        "image": Image.new("RGB", (64, 64)),
        "width": 64,
        "height": 64,
        "num_frames": 2,
        "num_inference_steps": 1,
    },
)
