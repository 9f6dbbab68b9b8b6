"""image-to-video: what comes out of a picture, at which rate, in which shape; frames drawn between; and stops."""

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from handlers import frame_interpolation
from handlers.frame_interpolation import FrameInterpolationParams
from handlers.image_to_video import DRAWING, ImageToVideoParams, handler, load
from shared.device import Device
from shared.errors import Cancelled, InvalidInput
from shared.media.video_file import UNLIMITED, VideoFile
from shared.media.video_writer import LOSSLESS, VideoWriter
from shared.models.image_to_video import ImageToVideo
from shared.models.interpolator import Interpolator
from shared.models.prompted_video import PromptedVideo
from shared.runner import Runner
from shared.schemas import Made, MadeVideo, ModelSource
from tests.shared import runners
from tests.shared.models import tiny_prompted_video, tiny_video
from tests.shared.models.films import Blend
from tests.shared.models.recorder import Film, Recorder
from tests.shared.runners import PICTURE_URL, Events

CPU = Device("cpu")
PICTURE = Image.linear_gradient("L").resize((90, 60)).convert("RGB")
SMALL: dict[str, Any] = {"image": PICTURE, "width": 96, "height": 64, "num_inference_steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
    return tiny_video.stable_video_diffusion(tmp_path_factory.mktemp("video") / "svd")


@pytest.fixture(scope="module")
def model(folder: Path) -> ImageToVideo:
    loaded = load(ModelSource("ours/tiny", "main", folder), CPU)
    assert isinstance(loaded, ImageToVideo)
    return loaded


@pytest.fixture(scope="module", params=["ltx", "wan_22_small"])
def prompted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PromptedVideo:
    folder = getattr(tiny_prompted_video, request.param)(tmp_path_factory.mktemp("video") / request.param)
    loaded = load(ModelSource("ours/tiny", "main", folder), CPU)
    assert isinstance(loaded, PromptedVideo)
    return loaded


class Blending(Recorder):
    """Draws frames in between by blending, as a nested run; `asked` is what it was told, and for which share."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.asked: list[tuple[str, dict[str, Any], tuple[float, float] | None]] = []

    def run(
        self, pipeline: str, params: dict[str, Any], *, span: tuple[float, float] | None = None
    ) -> list[Made | MadeVideo]:
        self.asked.append((pipeline, params, span))
        inner = Recorder()
        frame_interpolation.run(Interpolator(Blend(), CPU), FrameInterpolationParams(**params), inner)
        (film,) = inner.films
        with VideoWriter(film.width, film.height, film.fps, LOSSLESS) as writer:
            for pixels in film.frames:
                writer.write(pixels)
            return [MadeVideo(VideoFile(writer.finish().data, UNLIMITED))]


def run(model: ImageToVideo | PromptedVideo, ctx: Recorder | None = None, **params: Any) -> Recorder:
    ctx = ctx or Recorder()
    handler.run(model, ImageToVideoParams(**{**SMALL, **params}), ctx)
    return ctx


def film_of(ctx: Recorder) -> Film:
    (film,) = ctx.films
    assert film.done
    assert ctx.made == []
    return film


def test_a_picture_becomes_a_video_of_the_models_length(model: ImageToVideo) -> None:
    ctx = run(model, decode_chunk_size=4)
    film = film_of(ctx)
    assert (film.width, film.height, film.fps, len(film.frames)) == (96, 64, Fraction(6), model.num_frames)
    assert (film.seed, film.audio) == (3, None)
    assert ctx.steps == [(1, 3), (2, 3), (3, 3)]
    assert ctx.differs == {"seed": 3, "num_frames": 4, "decode_chunk_size": 4}
    assert ctx.facts == {"safety_checked": False}


def test_length_and_rate_are_those_asked_for(model: ImageToVideo) -> None:
    film = film_of(run(model, num_frames=7, fps=12))
    assert (len(film.frames), film.fps) == (7, Fraction(12))


def test_a_seed_is_drawn_and_said_where_none_is_given(model: ImageToVideo) -> None:
    first, second = run(model, seed=None), run(model, seed=None)
    assert first.differs["seed"] == film_of(first).seed
    assert first.differs["seed"] != second.differs["seed"]
    again = film_of(run(model, seed=first.differs["seed"], decode_chunk_size=first.differs["decode_chunk_size"]))
    assert np.array_equal(again.frames, film_of(first).frames)


def test_the_memory_decides_how_many_frames_are_decoded_at_once_and_the_receipt_says_it(model: ImageToVideo) -> None:
    assert run(model).differs["decode_chunk_size"] == model.frames_at_once(96, 64)


@pytest.mark.parametrize(("size", "result"), [((90, 60), (96, 64)), ((60, 90), (42, 64)), ((300, 100), (96, 32))])
def test_a_picture_between_bars_comes_out_without_them(
    model: ImageToVideo, size: tuple[int, int], result: tuple[int, int]
) -> None:
    picture = PICTURE.resize(size)
    assert film_of(run(model, image=picture)).frames[0].shape == (64, 96, 3)
    film = film_of(run(model, image=picture, fit="letterbox"))
    assert (film.width, film.height) == result


def test_frames_come_as_images_where_that_is_asked(model: ImageToVideo) -> None:
    ctx, film = run(model, output="frames"), film_of(run(model))
    assert ctx.films == []
    assert [(made.seed, made.nsfw, made.image.size) for made in ctx.made] == [(3, False, (96, 64))] * 4
    assert np.array_equal([np.asarray(made.image) for made in ctx.made], film.frames)


@pytest.mark.parametrize(
    ("asked", "fps", "count"),
    [
        ({"interpolate": 1}, 12, 7),
        ({"interpolate": 3}, 24, 13),
        ({"target_fps": 24}, 24, 13),
        ({"target_fps": 9, "fps": 6}, 9, 5),
        ({"target_fps": 29.97, "fps": 15}, Fraction(2997, 100), 6),
        ({"target_fps": 3}, 3, 2),
    ],
    ids=str,
)
def test_frames_are_drawn_between_the_models(
    model: ImageToVideo, asked: dict[str, Any], fps: Fraction, count: int
) -> None:
    film = film_of(run(model, Blending(), **asked))
    assert (film.fps, len(film.frames), film.width, film.height, film.seed) == (fps, count, 96, 64, 3)


def test_the_models_own_frames_are_kept_among_them(model: ImageToVideo) -> None:
    drawn, ctx = film_of(run(model)), Blending()
    smooth = film_of(run(model, ctx, interpolate=1))
    assert np.array_equal(smooth.frames[::2], drawn.frames)
    ((pipeline, told, _),) = ctx.asked
    assert pipeline == "frame-interpolation"
    assert np.array_equal([np.asarray(image) for image in told["images"]], drawn.frames)
    assert not told["scene_cut"]


def test_interpolated_frames_come_as_images_too(model: ImageToVideo) -> None:
    made = run(model, Blending(), interpolate=1, output="frames").made
    assert [one.seed for one in made] == [3] * 7


def test_interpolation_follows_in_the_progress(model: ImageToVideo) -> None:
    ctx = Blending()
    run(model, ctx, interpolate=1, num_inference_steps=5)
    last, steps = ctx.steps[-1]
    ((_, _, span),) = ctx.asked
    assert span == (DRAWING, 1.0)
    assert last / steps <= DRAWING < (last + 1) / steps + 0.1


@pytest.mark.parametrize("stop_at", [1, 4], ids=["step", "decoding"])
def test_a_stop_ends_it_within_a_step_or_a_piece(model: ImageToVideo, stop_at: int) -> None:
    ctx = Blending(stop_at=stop_at)
    with pytest.raises(Cancelled):
        run(model, ctx, decode_chunk_size=1, interpolate=1)
    assert ctx.steps[-1][0] == stop_at
    assert ctx.asked == []
    assert not any(film.done for film in ctx.films)


def test_previews_are_made_only_where_they_were_asked_for(model: ImageToVideo) -> None:
    assert run(model, Recorder(previews=True)).pictures == []
    assert len(run(model, Recorder(previews=True), preview=True).pictures) == 2


def test_a_size_that_the_model_does_not_draw_is_refused(model: ImageToVideo) -> None:
    with pytest.raises(InvalidInput, match="multiples of 16, not 104 x 64"):
        run(model, width=104)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"interpolate": 1, "target_fps": 24}, "interpolate and target_fps say the same"),
        ({"min_guidance_scale": 2.0, "max_guidance_scale": 1.0}, "min_guidance_scale must be at most"),
        ({"width": 100}, "multiple of 8"),
        ({"num_frames": 1}, "greater than or equal to 2"),
        ({"num_frames": 258}, "less than or equal to 257"),
        ({"target_fps": 60, "video_format": "gif"}, "60 frames a second do not go into gif"),
        ({"fps": 30, "interpolate": 1, "video_format": "gif"}, "60 frames a second do not go into gif"),
        ({"fit": "squeeze"}, "'crop' or 'letterbox'"),
    ],
    ids=str,
)
def test_parameters_that_contradict_each_other_are_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ImageToVideoParams(**{**SMALL, **given})


def test_the_warm_up_runs(model: ImageToVideo) -> None:
    ctx = Recorder()
    handler.run(model, ImageToVideoParams(**handler.warmup or {}), ctx)
    assert len(film_of(ctx).frames) == 9


def test_the_warm_up_runs_in_every_family(prompted: PromptedVideo) -> None:
    ctx = Recorder()
    handler.run(prompted, ImageToVideoParams(**handler.warmup or {}), ctx)
    assert len(film_of(ctx).frames) == 9


def test_what_a_family_does_not_take_is_refused_before_any_step(model: ImageToVideo, prompted: PromptedVideo) -> None:
    ctx = Recorder()
    with pytest.raises(
        InvalidInput, match="'ours/tiny' does not take prompt, guidance_scale; it takes motion_bucket"
    ):
        run(model, ctx, prompt="it turns", guidance_scale=3.0)
    with pytest.raises(InvalidInput, match="'ours/tiny' does not take motion_bucket_id; it takes prompt, negative"):
        run(prompted, ctx, motion_bucket_id=127)
    with pytest.raises(InvalidInput, match="num_frames is 51; 'ours/tiny' draws at most 50"):
        run(model, ctx, num_frames=51)
    assert (ctx.steps, ctx.films) == ([], [])


def test_what_is_left_open_is_the_familys_own_and_the_receipt_says_it(prompted: PromptedVideo) -> None:
    ctx = run(prompted, num_frames=9)
    family = prompted.family
    assert film_of(ctx).fps == family.fps
    theirs = ("motion_bucket_id", "noise_aug_strength", "min_guidance_scale", "max_guidance_scale")
    assert ctx.differs == {
        "seed": 3,
        "num_frames": 9,
        "fps": family.fps,
        "prompt": "",
        "negative_prompt": "",
        "guidance_scale": family.guidance_scale,
        **dict.fromkeys((*theirs, "decode_chunk_size")),
    }


def test_a_prompted_model_is_told_what_the_job_gives(prompted: PromptedVideo) -> None:
    asked: dict[str, Any] = {
        "num_frames": 9,
        "prompt": "a red circle",
        "negative_prompt": "blue",
        "guidance_scale": 2.0,
    }
    ctx = run(prompted, fps=6, **asked)
    film = film_of(ctx)
    told = {**asked, "num_inference_steps": 2, "fps": 6}
    picture = PICTURE.resize((96, 64), Image.Resampling.LANCZOS)
    drawn = prompted.animate(picture, 3, Recorder(), share=1.0, preview=False, **told)
    assert film.fps == 6
    assert np.array_equal(film.frames, np.stack(list(drawn)))
    assert {name: ctx.differs[name] for name in asked} == asked


@pytest.mark.parametrize(
    ("asked", "fps", "count"),
    [({"interpolate": 1, "fps": 12}, 24, 17), ({"target_fps": 20, "fps": 10}, 20, 17)],
    ids=str,
)
def test_frames_are_drawn_between_those_of_every_family(
    prompted: PromptedVideo, asked: dict[str, Any], fps: int, count: int
) -> None:
    film = film_of(run(prompted, Blending(), num_frames=9, fit="letterbox", **asked))
    assert (float(film.fps), len(film.frames), film.width, film.height) == (fps, count, 96, 64)


def test_a_rate_that_the_familys_own_comes_to_is_checked(prompted: PromptedVideo) -> None:
    with pytest.raises(InvalidInput, match="frames a second do not go into gif"):
        run(prompted, Blending(), num_frames=9, interpolate=3, video_format="gif")


@pytest.fixture(scope="module")
def runner(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """With the tiny model, and the demo model that interpolates."""
    entries = [
        {"pipeline": "image-to-video", "model_id": str(folder), "defaults": {"width": 64, "height": 64}},
        {"pipeline": "frame-interpolation", "model_id": "demo/frame-interpolation"},
    ]
    listed = tmp_path_factory.mktemp("runner") / "models.json"
    listed.write_text(json.dumps(entries))
    return runners.make(listed)


ASKED = {"pipeline": "image-to-video", "image": PICTURE_URL, "num_inference_steps": 2, "seed": 3}


def test_a_job_gets_a_smooth_video_and_progress_that_never_goes_back(runner: Runner) -> None:
    events = Events()
    result = runners.run(runner, ASKED, {"interpolate": 1}, events=events)
    (video,) = result["videos"]
    assert (video["seed"], video["nsfw"], video["frames"], video["fps"]) == (3, False, 7, 12.0)
    assert result["metrics"]["safety_checked"] is False
    shares = [seen.step / seen.steps for seen in events.seen if seen.step is not None and seen.steps]
    assert all(before <= after for before, after in itertools.pairwise(shares))
    assert shares[-1] == 1.0


def test_a_job_gets_its_frames_as_images(runner: Runner) -> None:
    result = runners.run(runner, ASKED, {"output": "frames", "image_format": "webp"})
    assert [image["url"][:16] for image in result["images"]] == ["data:image/webp;"] * 4


def test_a_job_to_a_prompted_model_gets_a_video_and_a_receipt_of_what_was_run(tmp_path: Path) -> None:
    folder = tiny_prompted_video.ltx(tmp_path / "ltx")
    entry = {"pipeline": "image-to-video", "model_id": str(folder), "defaults": {"num_frames": 9, "fps": 24}}
    listed = tmp_path / "models.json"
    listed.write_text(json.dumps([entry]))
    result = runners.run(runners.make(listed), ASKED, {"prompt": "it turns", "width": 64, "height": 64})
    (video,) = result["videos"]
    assert (video["seed"], video["frames"], video["fps"]) == (3, 9, 24.0)
    run_with = result["receipt"]["params"]
    assert (run_with["prompt"], run_with["guidance_scale"], run_with["motion_bucket_id"]) == ("it turns", 3.0, None)


def test_the_model_that_interpolates_is_planned_for_where_it_is_wanted(runner: Runner) -> None:
    def nested(**asked: Any) -> list[str]:
        return [plan.pipeline for plan in runner.planner.plan({**ASKED, **asked}).nested]

    assert nested(interpolate=1) == nested(target_fps=24) == ["frame-interpolation"]
    assert nested() == []
