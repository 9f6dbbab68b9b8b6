"""frame-interpolation: how many frames, at which times, what is passed through, cuts, stops; and the demo model."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from handlers.frame_interpolation import FrameInterpolationParams, check, expected_bytes, handler
from shared.device import Device
from shared.errors import Cancelled, InvalidInput
from shared.media.frames import Pixels
from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding, VideoWriter
from shared.models.interpolator import Interpolator
from templates.demo_models.measure_interpolation import CHECKPOINT, centroid, share
from templates.demo_models.train.motion import Motion
from templates.demo_models.train.shapes import Placement, Scene, draw, held_out_scenes
from tests.shared.media.clips import LIMITS, video_of
from tests.shared.models.films import Blend
from tests.shared.models.recorder import Film, Recorder


@pytest.fixture
def blend() -> Interpolator:
    """Whose frames are known exactly."""
    return Interpolator(Blend(), Device("cpu"))


def greys(count: int, step: int = 8) -> list[Image.Image]:
    return [Image.new("RGB", (32, 24), (shade,) * 3) for shade in range(0, count * step, step)]


def video(count: int, fps: Fraction, **more: Any) -> VideoFile:
    pictures = [np.asarray(image) for image in greys(count)]
    return VideoFile(video_of(pictures, fps=fps, options={"crf": "1"}, **more), LIMITS)


def run(model: Interpolator, *, stop_at: int | None = None, **params: Any) -> tuple[Film, Recorder]:
    ctx = Recorder(stop_at=stop_at)
    handler.run(model, FrameInterpolationParams(**params), ctx)
    (film,) = ctx.films
    return film, ctx


def shades(film: Film) -> list[float]:
    return [float(frame.mean()) for frame in film.frames]


@pytest.mark.parametrize(
    ("rate", "fps", "count"),
    [
        ({}, 24, 9),
        ({"factor": 2}, 24, 9),
        ({"factor": 16}, 192, 65),
        ({"target_fps": 24}, 24, 9),
        ({"target_fps": 30}, 30, 11),
        ({"target_fps": 12}, 12, 5),
        ({"target_fps": 6}, 6, 3),
        ({"in_between": 3}, 48, 17),
        ({"fps": 24}, 48, 9),
        ({"fps": 15, "target_fps": 29.97}, Fraction(30000, 1001), 8),
    ],
    ids=str,
)
def test_pictures_become_as_many_frames_as_the_rates_say(
    blend: Interpolator, rate: dict[str, Any], fps: Fraction, count: int
) -> None:
    film, ctx = run(blend, images=greys(5), **rate)
    assert film.done
    assert (film.fps, len(film.frames), film.width, film.height) == (Fraction(fps), count, 32, 24)
    assert film.audio is None
    assert ctx.steps == [(step, count) for step in range(1, count + 1)]
    assert ctx.facts == {"frames_in": 5, "frames_out": count, "cuts": 0}
    assert ctx.differs == {"target_fps": float(fps)}


def test_each_frame_lies_where_its_time_is(blend: Interpolator) -> None:
    film, _ = run(blend, images=greys(5), fps=10, target_fps=24)
    assert shades(film) == pytest.approx([8 * k * 10 / 24 for k in range(10)], abs=1)


def test_twenty_five_frames_at_twelve_become_forty_nine_with_the_same_sound(blend: Interpolator) -> None:
    source = video(25, Fraction(12), audio="aac")
    film, ctx = run(blend, video=source)
    assert (len(film.frames), film.fps) == (49, Fraction(24))
    assert film.audio is source
    assert ctx.steps[-1] == (49, 49)
    assert shades(film) == pytest.approx([4 * k for k in range(49)], abs=3)


def test_the_sources_frames_are_passed_through_untouched(blend: Interpolator) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)) for _ in range(3)]
    film, _ = run(blend, images=images, factor=3)
    for image, frame in zip(images, film.frames[::3], strict=True):
        assert np.array_equal(frame, np.asarray(image))


def test_a_fractional_rate_is_kept_exactly(blend: Interpolator) -> None:
    film, _ = run(blend, video=video(4, Fraction(24000, 1001)), factor=2)
    assert film.fps == Fraction(48000, 1001)
    assert len(film.frames) == 7


def test_times_that_the_container_rounds_are_taken_as_they_were_meant(blend: Interpolator) -> None:
    """Matroska has milliseconds; every second frame of the result is a frame of the source."""
    source = video(10, Fraction(24), container="matroska")
    film, _ = run(blend, video=source, factor=2)
    assert len(film.frames) == 19
    for frame, read in zip(film.frames[::2], source.frames(), strict=True):
        assert np.array_equal(frame, read.pixels)


def test_a_video_of_uneven_times_moves_evenly(blend: Interpolator) -> None:
    """Shades rise by 8 from frame to frame, at 0, 1, 4 and 5 tenths: the long gap is filled with more frames."""
    source = video(4, Fraction(10), pts=[0, 1, 4, 5])
    assert source.info.is_constant is False
    film, _ = run(blend, video=source, target_fps=20)
    assert shades(film) == pytest.approx([0, 4, 8, 9.3, 10.7, 12, 13.3, 14.7, 16, 20, 24], abs=1.5)


def scenes() -> list[Image.Image]:
    """A circle that moves, then a square that does, on another ground."""
    ways = [(Scene("circle", "red", "blue"), x) for x in (-0.1, 0, 0.1)]
    ways += [(Scene("square", "black", "yellow"), x) for x in (0.1, 0)]
    return [Image.fromarray(draw(scene, Placement(x, 0, 0.2))) for scene, x in ways]


def test_nothing_is_drawn_across_a_cut(blend: Interpolator) -> None:
    film, ctx = run(blend, images=scenes(), factor=4)
    before, after = (np.asarray(image) for image in scenes()[2:4])
    assert [np.array_equal(frame, before) for frame in film.frames[8:12]] == [True, True, False, False]
    assert [np.array_equal(frame, after) for frame in film.frames[8:13]] == [False, False, True, True, True]
    assert not any(np.array_equal(frame, before) for frame in film.frames[:8])
    assert (len(film.frames), ctx.facts["cuts"]) == (17, 1)


def test_cuts_may_be_drawn_over(blend: Interpolator) -> None:
    film, ctx = run(blend, images=scenes(), factor=2, scene_cut=False)
    before, after = (np.asarray(image).astype(int) for image in scenes()[2:4])
    assert np.abs(film.frames[5] - (before + after) / 2).max() <= 1
    assert ctx.facts["cuts"] == 0


def test_a_stop_ends_the_video(blend: Interpolator) -> None:
    ctx = Recorder(stop_at=3)
    with pytest.raises(Cancelled):
        handler.run(blend, FrameInterpolationParams(images=greys(5)), ctx)
    assert len(ctx.films[0].frames) == 3
    assert not ctx.films[0].done


def test_a_stop_lands_between_pieces_of_a_frame(blend: Interpolator) -> None:
    class Stopping(Recorder):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2:
                raise Cancelled("asked")

    ctx = Stopping()
    with pytest.raises(Cancelled):
        handler.run(blend, FrameInterpolationParams(images=greys(5)), ctx)
    assert len(ctx.films[0].frames) == 1


def test_frames_are_read_as_they_are_needed(blend: Interpolator) -> None:
    """The third is not decoded before the frames between the first two have been written."""
    decoded: list[int] = []

    class Watched(VideoFile):
        def frames(self) -> Iterator[Any]:
            for frame in super().frames():
                decoded.append(len(ctx.films[0].frames) if ctx.films else 0)
                yield frame

    pictures = [np.asarray(image) for image in greys(6)]
    source, ctx = Watched(video_of(pictures, fps=Fraction(12)), LIMITS), Recorder()
    handler.run(blend, FrameInterpolationParams(video=source, factor=4), ctx)
    assert decoded == [0, 0, 4, 8, 12, 16]


def test_a_single_frame_stays_one(blend: Interpolator) -> None:
    film, _ = run(blend, video=video(1, Fraction(12)))
    assert len(film.frames) == 1


@pytest.mark.parametrize(("fps", "target"), [(30, 59.94), (30, 29.97), (24, 23.976), (24, 47.952)])
def test_a_rate_as_people_type_it_keeps_the_sources_frames(blend: Interpolator, fps: int, target: float) -> None:
    """29.97 frames a second are 30000/1001, so each frame of the source is one of the result."""
    source = video(9, Fraction(fps * 1000, 1001))
    film, _ = run(blend, video=source, target_fps=target)
    times = round(target / fps)
    assert len(film.frames) == 8 * times + 1
    for frame, read in zip(film.frames[::times], source.frames(), strict=True):
        assert np.array_equal(frame, read.pixels)


def test_what_a_browser_recorded_is_drawn_to_its_end(blend: Interpolator) -> None:
    """WebM of unknown length, whose steps are known all the same."""
    source = video(10, Fraction(12), container="webm", codec="libvpx-vp9", container_options={"live": "1"})
    film, ctx = run(blend, video=source)
    assert ctx.steps == [(step, 19) for step in range(1, 20)]
    assert len(film.frames) == 19


REFUSED = [
    ({"images": [*greys(2), Image.new("RGB", (24, 32))]}, "image 3 has 24 x 32 pixels, and the first 32 x 24"),
    ({"images": greys(2), "target_fps": 60, "video_format": "gif"}, "60 frames a second do not go into gif"),
    ({"images": [Image.new("RGB", (20_000, 2))] * 2}, "frames of 20000 x 2 do not go into h264"),
    ({"images": greys(32), "fps": 0.1, "target_fps": 120}, r"would have 37,201 frames; 36,000 are the most"),
]


@pytest.mark.parametrize(("given", "complaint"), REFUSED, ids=["sizes", "rate", "side", "frames"])
def test_what_cannot_be_drawn_is_refused_before_the_device(given: dict[str, Any], complaint: str) -> None:
    for refused in (check, expected_bytes):
        with pytest.raises(InvalidInput, match=complaint):
            refused(FrameInterpolationParams(**given))


def test_unreadable_sound_is_refused_before_the_device_unless_it_is_dropped() -> None:
    source = video(3, Fraction(12), container="matroska", audio="mp2")
    with pytest.raises(InvalidInput, match="codec that is not read; send AAC"):
        check(FrameInterpolationParams(video=source))
    check(FrameInterpolationParams(video=source, video_format="gif"))


def test_the_sound_lasts_as_long_as_the_source(blend: Interpolator) -> None:
    """Though the result ends with the source's last frame, 1/48 s after it begins."""
    source = video(12, Fraction(12), audio="aac", audio_s=3.0)
    film, _ = run(blend, video=source, in_between=3)
    writer = VideoWriter(32, 24, film.fps, Encoding("mp4"), audio=source)
    for frame in film.frames:
        writer.write(frame)
    with av.open(io.BytesIO(writer.finish().data), "r") as made:
        samples = sum(frame.samples for frame in made.decode(audio=0))
    assert len(film.frames) == 45
    assert samples / 48_000 == pytest.approx(1.0, abs=0.03)


def test_pictures_of_two_sizes_reach_no_model(blend: Interpolator) -> None:
    ctx = Recorder()
    with pytest.raises(InvalidInput, match="image 3 has"):
        handler.run(blend, FrameInterpolationParams(images=[*greys(2), Image.new("RGB", (24, 32))]), ctx)
    assert not ctx.films


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "give either video or images"),
        ({"images": 2, "video": True}, "give either video or images"),
        ({"images": 1}, "at least 2 items"),
        ({"images": 2, "factor": 2, "target_fps": 24}, "give one of them"),
        ({"images": 2, "factor": 2, "in_between": 1}, "give one of them"),
        ({"video": True, "fps": 12}, "fps is for images"),
        ({"images": 2, "factor": 1}, "greater than or equal to 2"),
        ({"images": 2, "factor": 17}, "less than or equal to 16"),
        ({"images": 2, "in_between": 16}, "less than or equal to 15"),
        ({"images": 2, "target_fps": 121}, "less than or equal to 120"),
    ],
    ids=str,
)
def test_parameters_that_contradict_each_other_are_refused(given: dict[str, Any], complaint: str) -> None:
    if "images" in given:
        given = {**given, "images": greys(given["images"])}
    if "video" in given:
        given = {**given, "video": video(2, Fraction(12))}
    with pytest.raises(ValidationError, match=complaint):
        FrameInterpolationParams(**given)


@pytest.mark.parametrize(("fps", "new"), [(12, 24), (16, 24), (23.9, 47.8), (24, 48), (30, 60), (60, 120)])
def test_without_a_rate_it_is_24_or_twice_the_sources(fps: float, new: float) -> None:
    params = FrameInterpolationParams(images=greys(2))
    assert params.new_fps(Fraction(fps).limit_denominator(10)) == Fraction(new).limit_denominator(10)


def test_what_a_video_will_take_is_foretold() -> None:
    assert handler.expected_bytes is not None
    params = FrameInterpolationParams(video=video(5, Fraction(12)))
    assert handler.expected_bytes(params, lambda: None) > 500
    assert handler.expected_bytes(FrameInterpolationParams(images=greys(2)), lambda: None) == 0


@pytest.fixture(scope="module")
def demo() -> Interpolator:
    from shared.schemas import ModelSource

    assert handler.load is not None
    model = handler.load(ModelSource("demo/frame-interpolation", "local", CHECKPOINT), Device("cpu"))
    assert isinstance(model, Interpolator)
    return model


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_demo_model_moves_a_shape_evenly(demo: Interpolator, factor: int) -> None:
    """Five pictures of a shape of a scene that training never saw, 6 pixels from one to the next."""
    scene = next(s for s in held_out_scenes() if s.shape == "circle" and s.size == "medium")
    way = Motion(scene, Placement(-0.19, -0.1, 0.23), Placement(0.19, 0.1, 0.23))
    images = [Image.fromarray(way.draw(k / 4)) for k in range(5)]
    film, _ = run(demo, images=images, factor=factor)

    def place(pixels: Pixels) -> Any:
        return centroid(
            share(pixels, way),
        )

    for k, frame in enumerate(film.frames):
        wanted = place(way.draw(k / (len(film.frames) - 1)))
        assert np.hypot(*(place(frame) - wanted)) <= 0.1 * 64 * way.travelled() / 4
