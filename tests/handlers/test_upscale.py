"""upscale: images and videos at 2 to 4 times their size, by the demo model and by a tiny network."""

import base64
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file

import handlers
from handlers import upscale
from handlers.upscale import UpscaleParams, expected_bytes, handler, load, paced
from shared.device import Device
from shared.errors import Cancelled, InvalidInput, ResultTooLarge
from shared.job import Job, Progress
from shared.media.frames import Frame, VideoInfo
from shared.media.image import encode_image
from shared.media.source import data_url
from shared.media.video import VideoInput
from shared.media.video_file import VideoFile, VideoLimits
from shared.media.video_writer import Encoding, VideoWriter
from shared.models.catalog import Entry
from shared.models.esrgan import SRVGGNetCompact
from shared.models.store import Store
from shared.models.upscaler import Upscaler
from shared.runner import Runner
from shared.schemas import ModelSource
from shared.settings import Settings
from templates.demo_models.train import large_pictures, shapes
from templates.demo_models.train.shapes import Scene
from tests.shared.models.recorder import Recorder
from tests.shared.models.test_diffusion_upscale import checkpoint

CPU = Device("cpu")
LIMITS = VideoLimits(10**7, 1000, 100)
PICTURE = Image.fromarray(shapes.draw(Scene("circle", "red", "blue")))


@pytest.fixture(scope="module")
def demo() -> Any:
    entry = Entry(pipeline="upscale", model_id="demo/upscale", files=("model.safetensors",))
    return load(Store().ensure(entry), CPU)


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    """A network that makes four pixels of each, so that frames can be told apart by their colour."""
    network = SRVGGNetCompact(features=4, convolutions=1, scale=2)
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    file = tmp_path_factory.mktemp("repeats") / "repeats.safetensors"
    save_file(network.state_dict(), file)
    model = load(ModelSource("some/network", "main", file), CPU)
    assert isinstance(model, Upscaler)
    return model


def run(model: Any, *, stop_at: int | None = None, **params: Any) -> Recorder:
    ctx = Recorder(stop_at=stop_at)
    handler.run(model, UpscaleParams(**params), ctx)
    return ctx


def video(frames: int, *, width: int = 32, height: int = 24, fps: Fraction = Fraction(12)) -> VideoFile:
    """Grey frames, frame k of shade 10 k."""
    writer = VideoWriter(width, height, fps, Encoding("mp4", None, 1))
    for k in range(frames):
        writer.write(np.full((height, width, 3), 10 * k, np.uint8))
    return VideoFile(writer.finish().data, LIMITS)


def shades(frames: list[NDArray[np.uint8]]) -> list[int]:
    return [round(float(frame.mean()) / 10) for frame in frames]


@pytest.mark.parametrize(("scale", "size"), [(None, 256), (2, 128), (3, 192), (2.5, 160)])
def test_an_image_comes_out_at_the_size_asked_for(demo: Any, scale: float | None, size: int) -> None:
    ctx = run(demo, image=PICTURE, scale=scale)
    (made,) = ctx.made
    assert (made.image.mode, made.image.size) == ("RGB", (size, size))
    assert ctx.differs == {"scale": scale or 4.0}
    assert ctx.steps == [(1, 1)]


def test_the_drawing_is_closer_to_the_large_one_than_by_bicubic(demo: Any) -> None:
    scene = shapes.held_out_scenes()[0]
    large = shapes.draw(scene, width=256, height=256)
    small = Image.fromarray(large_pictures.reduce(large))
    made, bicubic = run(demo, image=small).made[0].image, small.resize((256, 256), Image.Resampling.BICUBIC)
    errors = [np.square(np.asarray(image, float) - large).mean() for image in (made, bicubic)]
    assert 10 * np.log10(errors[1] / errors[0]) > 1.5


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (1, 40), (33, 65)])
def test_odd_sizes_are_enlarged(demo: Any, size: tuple[int, int]) -> None:
    made = run(demo, image=PICTURE.resize(size), tile=32).made[0].image
    assert made.size == (4 * size[0], 4 * size[1])


def test_transparency_is_kept(demo: Any) -> None:
    image = PICTURE.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    alpha = run(demo, image=image, scale=2).made[0].image.getchannel("A")
    assert (alpha.getpixel((20, 60)), alpha.getpixel((100, 60))) == (0, 255)


def test_progress_is_told_tile_by_tile_and_a_stop_ends_it_there(demo: Any) -> None:
    assert run(demo, image=PICTURE, tile=32).steps == [(n, 4) for n in (1, 2, 3, 4)]
    with pytest.raises(Cancelled):
        run(demo, image=PICTURE, tile=32, stop_at=1)


def test_a_result_that_nobody_could_hold_is_refused_before_anything_is_computed(
    repeats: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upscale, "MAX_PIXELS", 10_000)
    assert run(repeats, image=PICTURE.resize((50, 50))).made
    ctx = Recorder()
    with pytest.raises(InvalidInput, match=r"51 x 50 pixels would become 10,200, which is more than 10,000"):
        handler.run(repeats, UpscaleParams(image=PICTURE.resize((51, 50))), ctx)
    with pytest.raises(InvalidInput, match="send a smaller"):
        handler.run(repeats, UpscaleParams(video=VideoInput(video(1, width=52, height=50))), ctx)
    assert ctx.steps == []


def test_a_video_of_which_no_player_shows_a_frame_is_refused(repeats: Upscaler) -> None:
    with pytest.raises(InvalidInput, match=r"would be 8200 x 32; 8192 a side are the most"):
        run(repeats, video=video(1, width=4100, height=16))


def test_a_video_keeps_its_frames_in_order_and_its_rate(repeats: Upscaler) -> None:
    before = video(20)
    ctx = run(repeats, video=before)
    (film,) = ctx.films
    assert film.done
    assert (film.width, film.height, film.fps, film.audio) == (64, 48, Fraction(12), before)
    assert shades(film.frames) == list(range(20))
    assert ctx.steps == [(n, 20) for n in range(1, 21)]


@pytest.mark.parametrize(("scale", "size"), [(2, (64, 48)), (2.5, (80, 60)), (4, (128, 96))])
def test_a_videos_frames_are_resampled_to_other_factors(
    repeats: Upscaler, scale: float, size: tuple[int, int]
) -> None:
    (film,) = run(repeats, video=video(2), scale=scale).films
    assert (film.width, film.height) == size
    assert shades(film.frames) == [0, 1]


def test_a_video_can_be_stopped_at_a_frame_and_is_dropped(repeats: Upscaler) -> None:
    ctx = Recorder(stop_at=3)
    with pytest.raises(Cancelled):
        handler.run(repeats, UpscaleParams(video=VideoInput(video(20))), ctx)
    assert not ctx.films[0].done


def test_a_video_can_be_stopped_between_two_tiles_of_a_frame(repeats: Upscaler) -> None:
    class Stopping(Recorder):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2:
                raise Cancelled("asked")

    ctx = Stopping()
    with pytest.raises(Cancelled):
        handler.run(repeats, UpscaleParams(video=VideoInput(video(3, width=128, height=128)), tile=32), ctx)
    assert ctx.steps == []


class Timed:
    """A video as `paced` sees it: frames at given times."""

    def __init__(self, fps: int, times_s: list[float], *, is_constant: bool | None) -> None:
        self.info = VideoInfo(2, 2, Fraction(fps), None, None, False, "mp4", is_constant)
        self._times_s = times_s

    def frames(self) -> Iterator[Frame]:
        for number, time_s in enumerate(self._times_s):
            yield Frame(np.full((2, 2, 3), number, np.uint8), time_s)


@pytest.mark.parametrize(
    ("times_s", "shown"),
    [
        ([0.0, 0.1, 0.2, 0.3], [1, 1, 1, 1]),
        ([0.0, 0.102, 0.198, 0.301], [1, 1, 1, 1]),
        ([0.0, 0.1, 0.4, 0.5], [1, 3, 1, 1]),
        ([0.0, 0.1, 0.11, 0.12, 0.2], [1, 0, 0, 1, 1]),
        ([0.0], [1]),
        ([], []),
    ],
)
def test_frames_that_last_unequally_stay_beside_their_sound(times_s: list[float], shown: list[int]) -> None:
    found = paced(Timed(10, times_s, is_constant=None))  # type: ignore[arg-type]
    assert [(int(pixels[0, 0, 0]), times) for pixels, times in found] == [(n, k) for n, k in enumerate(shown) if k]


def test_holes_of_a_video_known_to_be_constant_show_the_frame_before_them() -> None:
    found = paced(Timed(10, [0.0, 0.1, 0.4, 0.5], is_constant=True))  # type: ignore[arg-type]
    assert [times for _, times in found] == [1, 3, 1, 1]


def test_exactly_one_of_image_and_video_is_given() -> None:
    with pytest.raises(ValidationError, match="give either image or video"):
        UpscaleParams()
    with pytest.raises(ValidationError, match="give either image or video"):
        UpscaleParams(image=PICTURE, video=VideoInput(video(1)))


@pytest.mark.parametrize("scale", [1.9, 4.1, 0, -2])
def test_scales_beyond_the_bounds_are_refused(scale: float) -> None:
    with pytest.raises(ValidationError, match="scale"):
        UpscaleParams(image=PICTURE, scale=scale)


def test_a_network_takes_no_prompt_and_says_why(demo: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"'demo/upscale' sees nothing but the picture; leave out prompt, noise_level"
    ):
        run(demo, image=PICTURE, prompt="a cat", noise_level=0)
    with pytest.raises(InvalidInput, match="has no denoise_strength"):
        run(demo, image=PICTURE, denoise_strength=0.5)
    assert run(demo, image=PICTURE.resize((4, 4)), prompt="", negative_prompt="").made


def test_what_a_network_has_no_use_for_can_be_left_out(demo: Any) -> None:
    small = PICTURE.resize((4, 4))
    plain = run(demo, image=small)
    told = run(demo, image=small, prompt="a cat", num_inference_steps=75, unused="ignore")
    assert told.made[0].image.tobytes() == plain.made[0].image.tobytes()
    assert told.facts["unused"] == ["prompt", "num_inference_steps"]
    assert (told.differs["prompt"], told.differs["num_inference_steps"]) == (None, None)


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(ModelSource("some/upscaler", "main", checkpoint(tmp_path_factory.mktemp("x4"))), CPU)


def test_stable_diffusion_draws_what_the_receipt_says(painter: Any) -> None:
    ctx = run(painter, image=PICTURE.resize((16, 12)), prompt="a circle", num_inference_steps=2, seed=5, scale=2)
    (made,) = ctx.made
    assert (made.image.size, made.seed, made.nsfw) == ((32, 24), 5, False)
    told = {"prompt": "a circle", "negative_prompt": "", "guidance_scale": 9.0, "noise_level": 20}
    assert ctx.differs == {"scale": 2, "seed": 5, "num_inference_steps": 2, **told}
    assert ctx.facts == {"safety_checked": False}


def test_stable_diffusion_says_what_it_cannot_do(painter: Any) -> None:
    with pytest.raises(InvalidInput, match="draws as the prompt says; leave out denoise_strength, tile"):
        run(painter, image=PICTURE, denoise_strength=0, tile=64)
    with pytest.raises(InvalidInput, match="draws images only"):
        run(painter, video=video(1))


def test_livepeers_fields_are_taken() -> None:
    """What its runner sends to an upscale worker."""
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    sent = {
        "prompt": "",
        "model_id": "some/upscaler",
        "guidance_scale": 7.5,
        "negative_prompt": "",
        "noise_level": None,
    }
    sent |= {"num_inference_steps": 75, "safety_check": True, "seed": 1}
    assert UpscaleParams(image=data_url(file.getvalue(), "image/png"), **sent).guidance_scale == 7.5


def test_a_video_and_an_image_foretell_their_size() -> None:
    noise = Image.effect_noise((400, 400), 100).convert("RGB")
    writer = VideoWriter(400, 400, Fraction(12), Encoding("mp4"))
    for turn in Image.Transpose:
        writer.write(np.asarray(noise.transpose(turn)))
    rough = VideoInput(VideoFile(writer.finish().data, LIMITS))
    given: dict[str, Any]
    for given in ({"video": rough}, {"image": noise}):
        own, double, fourfold = (expected_bytes(UpscaleParams(**given, scale=scale)) for scale in (None, 2, 4))
        assert 0 < own < double < fourfold
    assert expected_bytes(UpscaleParams(image=noise, scale=4)) > 2_000_000
    assert expected_bytes(UpscaleParams(image=noise, scale=4, image_format="jpeg")) < 2_000_000


def test_sizes_that_are_too_large_for_any_network_are_refused_before_anything_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check() -> None:
        raise AssertionError("a frame was looked at")

    with pytest.raises(InvalidInput, match=r"would be 8200 x 32; 8192 a side"):
        expected_bytes(UpscaleParams(video=VideoInput(video(1, width=4100, height=16)), scale=2), check)
    monkeypatch.setattr(upscale, "MAX_PIXELS", 10_000)
    with pytest.raises(InvalidInput, match=r"51 x 50 pixels would become 10,200, which is more than 10,000"):
        expected_bytes(UpscaleParams(image=PICTURE.resize((51, 50)), scale=2), check)
    with pytest.raises(InvalidInput, match=r"52 x 50 pixels would become 10,400"):
        expected_bytes(UpscaleParams(video=VideoInput(video(1, width=52, height=50)), scale=2), check)


def test_a_rate_that_the_format_does_not_hold_is_refused_before_the_network_runs(repeats: Upscaler) -> None:
    params = UpscaleParams(video=VideoInput(video(3, fps=Fraction(60))), video_format="gif")
    with pytest.raises(InvalidInput, match="60 frames a second do not go into gif"):
        expected_bytes(params)
    ctx = Recorder()
    with pytest.raises(InvalidInput, match="60 frames a second do not go into gif"):
        handler.run(repeats, params, ctx)
    assert ctx.films == []


def test_a_stop_lands_while_a_videos_size_is_foretold() -> None:
    def stop() -> None:
        raise Cancelled("asked")

    with pytest.raises(Cancelled):
        expected_bytes(UpscaleParams(video=VideoInput(video(10))), stop)


def test_a_picture_that_nobody_could_carry_is_refused_before_the_network_has_run(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text('[{"pipeline": "upscale", "model_id": "demo/upscale"}]')
    runner = Runner(Settings(models=tmp_path / "models.json", device="cpu"), handlers)
    noise = encode_image(Image.effect_noise((300, 300), 100).convert("RGB"), "png")
    steps: list[int | None] = []
    job = Job("job", {"pipeline": "upscale", "image": base64.b64encode(noise).decode()}, result_limit=500_000)
    job.events = lambda event: steps.append(event.step) if isinstance(event, Progress) else None
    with pytest.raises(ResultTooLarge, match="the result would be about"):
        runner.submit(job).result(60)
    assert steps
    assert not any(steps)
    runner.lane.close()
