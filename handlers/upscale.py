"""Make an image or a video larger."""

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, Self

from PIL import Image
from pydantic import Field, model_validator

from shared.errors import InvalidInput
from shared.media.audio import check_sound
from shared.media.foretell import image_bytes, video_bytes
from shared.media.frames import Pixels
from shared.media.image import ImageInput, read_image
from shared.media.resampling import frames_at, last_frame_s
from shared.media.video import VideoInput, VideoParams, read_video
from shared.media.video_file import VideoFile
from shared.schemas import MAX_SEED, Context, Handler, ImageFormat, ModelSource

if TYPE_CHECKING:
    from shared.device import Device
    from shared.models.diffusion_upscale import DiffusionUpscaler
    from shared.models.upscaler import Enlarger, Upscaler

MAX_PIXELS = 200_000_000  # of a picture, or of a frame, as large as the network makes it
LONGEST_SIDE = 8192  # of a video's frame
LEAST_SCALE = 2.0
LEAST_FACTOR = 1.0  # of a network: some mend pictures at their own size
# What a Stable Diffusion upscaler is told where the job says nothing; the values are diffusers' own.
BY_PROMPT = {"prompt": "", "negative_prompt": "", "guidance_scale": 9.0, "noise_level": 20, "num_inference_steps": 75}
BY_NETWORK = ("denoise_strength", "tile")


class UpscaleParams(VideoParams):
    """What is made larger, an image or a video."""

    image: ImageInput | None = Field(None, description="The image to enlarge; its transparency is kept.")
    video: VideoInput | None = Field(None, description="The video to enlarge; its sound and frame rate are kept.")
    scale: float | None = Field(
        None, ge=LEAST_SCALE, le=4, description="Size relative to the input's; the network's own by default."
    )
    denoise_strength: float | None = Field(
        None, ge=0, le=1, description="How much noise to take away, by default all; realesr-general-x4v3 only."
    )
    tile: int | None = Field(
        None, ge=32, le=2048, description="Side of a tile in pixels of the input; by memory when not given."
    )
    prompt: str | None = Field(
        None, max_length=8000, description="What the picture shows; for Stable Diffusion upscalers only."
    )
    negative_prompt: str | None = Field(None, max_length=8000, description="What not to draw; as `prompt`.")
    guidance_scale: float | None = Field(
        None, ge=0, le=50, description="How closely to follow the prompt, by default 9; as `prompt`."
    )
    noise_level: int | None = Field(
        None, ge=0, le=1000, description="Noise added to the picture first, by default 20; as `prompt`."
    )
    num_inference_steps: int | None = Field(
        None, ge=1, le=150, description="Denoising steps, by default 75; as `prompt`."
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Of the noise; drawn when not given.")
    safety_check: bool = Field(True, description="Run the model's safety checker, where it brings one.")
    image_format: ImageFormat = Field("png", description="File format of the image; jpeg has no transparency.")

    unused: Literal["refuse", "ignore"] = Field(
        "refuse", description="What becomes of parameters that the model has no use for, such as a prompt."
    )

    @model_validator(mode="after")
    def _one_of_image_and_video(self) -> Self:
        if (self.image is None) == (self.video is None):
            raise ValueError("give either image or video")
        return self


def load(source: ModelSource, device: "Device") -> "Upscaler | DiffusionUpscaler":
    """The network of Real-ESRGAN, or of Stable Diffusion where the model is in diffusers format."""
    from shared.models import diffusion_upscale, upscaler

    return (
        diffusion_upscale.load(source, device) if diffusion_upscale.is_one(source) else upscaler.load(source, device)
    )


def to_device(model: "Upscaler | DiffusionUpscaler", device: "Device") -> "Upscaler | DiffusionUpscaler":
    """The model, which was read for such a device, on it."""
    return model.to_device(device)


def run(model: "Upscaler | DiffusionUpscaler", params: UpscaleParams, ctx: Context) -> None:
    """Enlarge the image, or the video batch by batch while its frames are read and written."""
    check(params)
    ctx.effective(scale=params.scale or float(model.scale))
    if model.kind == "diffusion":
        _redraw(model, params, ctx)
        return
    _leave_out(model, params, ctx, BY_PROMPT, "sees nothing but the picture")
    if params.scale is None:  # the network has said by now how much it enlarges
        ctx.expect(lambda: _foretold(params, float(model.scale), ctx.check))
    job = model.begin(scale=params.scale, denoise_strength=params.denoise_strength, tile=params.tile)
    if params.image is not None:
        image = read_image(params.image, alpha=True)
        _check_pixels(image.width, image.height, job.most_pixels(image.width, image.height))
        ctx.image(job.picture(image, ctx.step))
    elif params.video is not None:
        _enlarge_video(job, read_video(params.video), ctx)


def _leave_out(
    model: "Upscaler | DiffusionUpscaler", params: UpscaleParams, ctx: Context, names: Iterable[str], nature: str
) -> None:
    said = [name for name in names if getattr(params, name) not in (None, "")]
    if said and params.unused == "refuse":
        raise InvalidInput(
            f"model '{model.source.model_id}' {nature}; leave out {', '.join(said)}, or name another model"
        )
    if said:
        ctx.effective(**dict.fromkeys(said))
        ctx.note(unused=said)


def check(params: UpscaleParams) -> None:
    """Refuse what is known to be impossible before the network is: it may enlarge more than the job asks for.

    Raises:
        InvalidInput: the result would be too large, or its format does not hold the rate or the sound.
    """
    scale = params.scale or LEAST_FACTOR
    if params.image is not None:
        image = read_image(params.image, alpha=True)
        _check_pixels(image.width, image.height, round(image.width * image.height * scale**2))
    elif params.video is not None:
        info = read_video(params.video).info
        _check_pixels(info.width, info.height, round(info.width * info.height * scale**2))
        _check_sides(round(info.width * scale), round(info.height * scale))
        params.encoding().check_rate(info.fps)
        if params.video_format != "gif":
            check_sound(info.audio_codec)


def _check_pixels(width: int, height: int, made: int) -> None:
    if made > MAX_PIXELS:
        raise InvalidInput(
            f"{width} x {height} pixels would become {made:,}, which is more than {MAX_PIXELS:,}; send a smaller "
            "picture, or choose a network with a smaller factor"
        )


def _check_sides(width: int, height: int) -> None:
    if max(width, height) > LONGEST_SIDE:
        raise InvalidInput(f"the video would be {width} x {height}; {LONGEST_SIDE} a side are the most: scale less")


def _enlarge_video(job: "Enlarger", video: VideoFile, ctx: Context) -> None:
    info, done = video.info, 0
    _check_pixels(info.width, info.height, job.most_pixels(info.width, info.height))
    size = job.size(info.width, info.height)
    _check_sides(*size)
    total, frames = frames_at(info.fps, last_frame_s(info)), paced(video)
    with ctx.video(*size, info.fps, audio=video) as out:
        while batch := list(itertools.islice(frames, job.frames_at_once(info.width, info.height))):
            enlarged = job.frames([pixels for pixels, _ in batch], lambda tile, tiles: ctx.check())
            for pixels, (_, times) in zip(enlarged, batch, strict=True):
                for _ in range(times):
                    out.write(pixels)
                done += times
                ctx.step(done, max(done, total))


def paced(video: VideoFile) -> Iterator[tuple[Pixels, int]]:
    """The frames, and how often each is shown at the video's average rate, which is how a video is written.

    Where frames last unequally or could not be decoded, some are shown again, and where they are too close, some left
    out, so that picture and sound stay together.
    """
    last, fps = None, video.info.fps
    for frame in video.frames():
        if last and (times := round(frame.time_s * fps) - round(last.time_s * fps)):
            yield last.pixels, times
        last = frame
    if last:
        yield last.pixels, 1


def _redraw(model: "DiffusionUpscaler", params: UpscaleParams, ctx: Context) -> None:
    _leave_out(model, params, ctx, BY_NETWORK, "draws as the prompt says")
    if params.image is None:
        raise InvalidInput(f"model '{model.source.model_id}' draws images only; name another model for a video")
    image = read_image(params.image, alpha=True)
    seed = secrets.randbelow(MAX_SEED) if params.seed is None else params.seed
    told = {name: default if (own := getattr(params, name)) is None else own for name, default in BY_PROMPT.items()}
    ctx.effective(seed=seed, **told)
    made, nsfw = model.enlarge(image, seed, ctx, safety_check=params.safety_check, scale=params.scale, **told)
    ctx.note(safety_checked=params.safety_check and model.has_safety_checker())
    ctx.image(made, seed=seed, nsfw=nsfw)


def expected_bytes(params: UpscaleParams, on_frame: Callable[[], None] = lambda: None) -> int:
    """At the least that the network may do; `on_frame` is called while the frames are looked at, and may raise."""
    check(params)
    return _foretold(params, params.scale or LEAST_FACTOR, on_frame)


def _foretold(params: UpscaleParams, scale: float, on_frame: Callable[[], None]) -> int:
    if params.image is not None:
        return image_bytes(read_image(params.image, alpha=True), scale, params.image_format, check=on_frame)
    return video_bytes(read_video(params.video), scale, params, check=on_frame) if params.video else 0


handler = Handler(
    params=UpscaleParams,
    load=load,
    to_device=to_device,
    run=run,
    warmup={"image": Image.new("RGB", (64, 64))},
    output=lambda params: "video" if params.video else "image",
    check=check,
    expected_bytes=expected_bytes,
)
