"""The context: what a run reports, where it can be stopped, and what a nested run shares with it."""

from collections.abc import Callable
from concurrent.futures import Future
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared import nested
from shared.backlog import Backlog
from shared.context import JobContext, Kept, Span
from shared.errors import Cancelled, DeadlineExceeded, InvalidInput, OutOfMemory, ResultTooLarge
from shared.job import Event, Job, Piece, Progress
from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding, VideoWriter
from shared.metrics import JobMetrics
from shared.nested import NestedContext
from shared.schemas import Made, MadeVideo, Output
from tests.clock import Clock

RED = Image.new("RGB", (8, 8), "red")
NOISE = Image.effect_noise((1024, 1024), 100).convert("RGB")


class Encoders:
    """Encodes at once, and remembers what; its videos are of one pixel."""

    def __init__(self) -> None:
        self.most_bytes: int | None = None
        self.made: list[Made] = []
        self.writers: list[VideoWriter] = []
        self.finishing: list[Future[Output]] = []

    def image(self, made: Made) -> "Future[Output]":
        self.made.append(made)
        future: Future[Output] = Future()
        future.set_result(Output(b"", "image/png", "png", "", "", 64, made.seed, made.nsfw))
        return future

    def open(self, width: int, height: int, fps: Fraction, audio: VideoFile | None) -> VideoWriter:
        self.writers.append(VideoWriter(width, height, fps, Encoding("mp4"), audio=audio))
        return self.writers[-1]

    def video(self, writer: VideoWriter, seed: int | None, nsfw: bool) -> "Future[Output]":
        video = writer.finish()
        self.finishing.append(Future())
        pixels = video.width * video.height * video.frames
        output = Output(video.data, "video/mp4", "mp4", "", "", pixels, seed, nsfw, video.frames, float(video.fps))
        self.finishing[-1].set_result(output)
        return self.finishing[-1]

    def again(self, made: MadeVideo, check: Callable[[], None]) -> "Future[Output]":
        raise NotImplementedError("the runner's tests encode again")

    def keep(self, made: list[Made | MadeVideo], first: int, check: Callable[[], None]) -> "Future[Kept]":
        raise NotImplementedError("the runner's tests keep")


class Bench:
    """A job, its context, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.seen: list[Event] = []
        self.encoders = Encoders()
        self.asked: list[tuple[JobContext, str, dict[str, Any]]] = []
        self.job = Job("job", {}, events=self.seen.append, clock=self.clock)
        self.backlog = Backlog(self.clock)
        self.metrics = JobMetrics(self.clock)
        self.backlog.accepted("job", "text-to-image")
        self.context = JobContext(self.job, self.metrics, self.backlog, self.encoders, self.nested)

    def nested(
        self, outer: JobContext, pipeline: str, params: dict[str, Any], span: Span | None
    ) -> list[Made | MadeVideo]:
        self.asked.append((outer, pipeline, params))
        return [Made(RED)]

    def progress(self) -> list[Progress]:
        return [event for event in self.seen if isinstance(event, Progress)]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.context.begin()
    return bench


def test_steps_are_numbered_reports_with_the_time_that_is_left(bench: Bench) -> None:
    for step in (1, 2):
        bench.clock.now += 3
        bench.context.step(step, 4)
    assert [p.as_dict() for p in bench.progress()] == [
        {"seq": 1, "stage": "running", "step": 1, "steps": 4, "eta_s": 9.0},
        {"seq": 2, "stage": "running", "step": 2, "steps": 4, "eta_s": 6.0},
    ]
    assert bench.context.steps_done == 2
    assert bench.backlog.remaining_s() == 6.0


def test_a_step_outside_its_range_has_no_time_left_to_tell(bench: Bench) -> None:
    bench.context.step(0, 4)
    bench.context.step(5, 4)
    assert [p.eta_s for p in bench.progress()] == [None, None]


def test_a_cancelled_job_stops_at_its_step_and_does_not_count_it(bench: Bench) -> None:
    bench.context.step(1, 4)
    bench.job.cancel.cancel("asked")
    with pytest.raises(Cancelled, match="asked"):
        bench.context.step(2, 4)
    assert bench.context.steps_done == 1
    assert len(bench.progress()) == 1


def test_a_job_over_its_deadline_stops_at_its_step(bench: Bench) -> None:
    bench.job.start_clock(default_timeout_s=5)
    bench.clock.now += 5
    bench.context.step(1, 4)
    bench.clock.now += 0.1
    with pytest.raises(DeadlineExceeded):
        bench.context.step(2, 4)


def test_a_preview_is_made_twice_a_second_at_most(bench: Bench) -> None:
    made_at: list[float] = []

    def preview() -> Image.Image:
        made_at.append(bench.clock.now)
        return RED

    for step in range(1, 11):
        bench.clock.now += 0.2
        bench.context.step(step, 10, preview)
    assert made_at == pytest.approx([100.2, 100.8, 101.4, 102.0])
    shown = [p.preview for p in bench.progress() if p.preview]
    assert len(shown) == 4
    assert all(url.startswith("data:image/jpeg;base64,") for url in shown)


def test_a_preview_of_a_large_busy_picture_is_at_most_64_kb(bench: Bench) -> None:
    bench.context.step(1, 2, lambda: NOISE)
    (shown,) = bench.progress()
    assert shown.preview is not None
    assert 1000 < len(shown.preview) <= 64_000


def test_outputs_leave_in_the_order_in_which_they_were_made(bench: Bench) -> None:
    bench.context.image(RED, seed=5)
    bench.context.image(NOISE, seed=6, nsfw=True)
    assert [(made.image, made.seed, made.nsfw) for made in bench.encoders.made] == [(RED, 5, False), (NOISE, 6, True)]
    assert [(o.seed, o.nsfw) for o in bench.context.outputs()] == [(5, False), (6, True)]


def test_a_run_that_starts_anew_forgets_the_first_attempt(bench: Bench) -> None:
    bench.context.step(1, 2)
    bench.context.image(RED)
    bench.context.effective(seed=1)
    bench.context.begin()
    assert (bench.context.steps_done, bench.context.outputs(), bench.context.differs) == (0, [], {})
    bench.clock.now += 2
    bench.context.step(1, 2)
    assert bench.progress()[-1].eta_s == 2.0
    assert bench.progress()[-1].seq == 2


def test_the_longest_time_in_which_nothing_could_stop_the_job_is_measured(bench: Bench) -> None:
    for step, passed in ((1, 0.5), (2, 2.0), (3, 0.25)):
        bench.clock.now += passed
        bench.context.step(step, 3)
    assert bench.metrics.as_dict()["longest_piece_s"] == 2.0


def test_facts_go_into_the_metrics(bench: Bench) -> None:
    bench.context.note(tiles=4)
    assert bench.metrics.as_dict()["tiles"] == 4


def test_a_nested_run_is_the_runners_to_make(bench: Bench) -> None:
    assert bench.context.run("upscale", {"scale": 2}) == [Made(RED)]
    assert bench.asked == [(bench.context, "upscale", {"scale": 2})]


def test_a_nested_run_reports_through_the_outer_one_and_keeps_its_outputs(bench: Bench) -> None:
    inner = NestedContext(bench.context)
    inner.step(1, 2)
    inner.image(RED, seed=3, nsfw=True)
    inner.note(tiles=4)
    inner.effective(seed=3)
    assert inner.made == [Made(RED, 3, True)]
    assert (bench.encoders.made, bench.context.differs, bench.context.steps_done) == ([], {}, 1)
    assert bench.metrics.as_dict()["tiles"] == 4


def test_a_video_between_two_pipelines_may_not_fill_the_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "MOST_BYTES", 100_000)
    inner, noise = NestedContext(bench.context), np.random.default_rng(1)
    with (
        pytest.raises(ResultTooLarge, match=r"more than 100 kB of memory.*ask for fewer frames"),
        inner.video(64, 64, Fraction(24)) as out,
    ):
        for _ in range(100):
            out.write(noise.integers(0, 256, (64, 64, 3), np.uint8))
    assert inner.made == []


def test_a_nested_run_stops_with_its_job_and_can_nest_again(bench: Bench) -> None:
    inner = NestedContext(bench.context)
    inner.run("upscale", {})
    assert bench.asked == [(bench.context, "upscale", {})]
    bench.job.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        inner.step(1, 2)


@pytest.fixture
def streaming(bench: Bench) -> JobContext:
    context = JobContext(bench.job, bench.metrics, bench.backlog, bench.encoders, bench.nested, streams=True)
    context.begin()
    return context


def pieces(bench: Bench) -> list[Any]:
    return [event.value for event in bench.seen if isinstance(event, Piece)]


def test_pieces_of_text_leave_as_they_are_made_and_are_kept(bench: Bench, streaming: JobContext) -> None:
    for piece in ("a", "", "b"):
        streaming.text(piece)
    assert pieces(bench) == ["a", "b"]
    assert str(streaming.written) == "ab"
    assert streaming.steps_done == 3


def test_text_that_is_not_streamed_is_only_kept(bench: Bench) -> None:
    bench.context.text("a")
    assert bench.seen == []
    assert str(bench.context.written) == "a"


def test_half_a_surrogate_pair_is_replaced_for_nothing_could_carry_it(bench: Bench, streaming: JobContext) -> None:
    for piece in ("a\ud83d", "\udc68b", "\ud83d\udc68", "\U0001f468"):
        streaming.text(piece)
    assert pieces(bench) == ["a\ufffd", "\ufffdb", "\U0001f468", "\U0001f468"]


def test_a_cancelled_text_stops_at_its_next_piece(bench: Bench, streaming: JobContext) -> None:
    streaming.text("a")
    bench.job.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        streaming.text("b")
    assert (pieces(bench), str(streaming.written)) == (["a"], "a")


def test_the_time_that_a_text_takes_at_most_is_known_to_the_backlog(bench: Bench, streaming: JobContext) -> None:
    bench.clock.now += 2
    streaming.text("a", most=10)
    assert bench.backlog.remaining_s() == pytest.approx(18)


def test_how_a_text_ended_and_its_answer_are_kept(bench: Bench) -> None:
    bench.context.finish("length", {"completion_tokens": 3})
    bench.context.answer({"choices": []})
    written = bench.context.written
    assert (written.finish_reason, written.usage, written.answer) == (
        "length",
        {"completion_tokens": 3},
        {"choices": []},
    )


def test_a_text_that_starts_anew_forgets_what_was_kept(bench: Bench) -> None:
    bench.context.text("a")
    bench.context.finish("stop", {})
    bench.context.begin()
    assert (str(bench.context.written), bench.context.written.finish_reason) == ("", None)


def test_a_text_of_which_pieces_have_left_does_not_start_anew(streaming: JobContext) -> None:
    streaming.text("")
    streaming.begin()
    streaming.text("a")
    with pytest.raises(OutOfMemory, match="middle of the text"):
        streaming.begin()


def test_a_pipeline_that_writes_cannot_be_run_by_another(bench: Bench) -> None:
    inner = NestedContext(bench.context)
    inner.finish("stop", {})
    inner.answer({})
    with pytest.raises(InvalidInput, match="cannot be run by another pipeline"):
        inner.text("a")
    assert bench.context.written.answer is None


def test_a_video_counts_once_its_block_has_ended(bench: Bench) -> None:
    with bench.context.video(16, 8, Fraction(12), seed=5) as out:
        for shade in (0, 100, 200):
            out.write(np.full((8, 16, 3), shade, np.uint8))
        assert bench.context.outputs() == []
    (output,) = bench.context.outputs()
    assert (output.frames, output.fps, output.seed, output.pixels) == (3, 12.0, 5, 3 * 8 * 16)
    assert output.as_dict("u") == {"url": "u", "seed": 5, "nsfw": False, "frames": 3, "fps": 12.0}


def test_a_video_whose_block_fails_is_dropped(bench: Bench) -> None:
    with pytest.raises(Cancelled), bench.context.video(16, 8, Fraction(12)) as out:
        out.write(np.zeros((8, 16, 3), np.uint8))
        raise Cancelled("asked")
    assert bench.context.outputs() == []
    with pytest.raises(ValueError, match="finished"):
        bench.encoders.writers[0].write(np.zeros((8, 16, 3), np.uint8))


def test_a_job_that_waits_for_its_encoders_can_be_stopped(bench: Bench) -> None:
    never: Future[Output] = Future()
    bench.encoders.image = lambda made: never  # type: ignore[method-assign]
    bench.context.image(RED)
    bench.job.cancel.cancel("asked")
    with pytest.raises(Cancelled, match="asked"):
        bench.context.outputs()


def test_what_an_attempt_kept_that_ran_out_of_memory_does_not_count(bench: Bench) -> None:
    first: Future[Kept] = Future()
    asked: list[int] = []

    def keep(made: list[Made | MadeVideo], before: int, check: Callable[[], None]) -> "Future[Kept]":
        asked.append(before)
        return first

    bench.encoders.keep = keep  # type: ignore[assignment]
    bench.context.nested.append({"pipeline": "paint"})
    bench.context.keep(0, [Made(RED)])
    first.set_running_or_notify_cancel()
    bench.context.begin()
    first.set_result(Kept([], []))
    bench.context.nested.append({"pipeline": "paint"})
    bench.context.keep(0, [Made(RED)])
    bench.context.report("running")
    assert asked == [0, 0]
    assert len(bench.progress()[-1].kept or []) == 1


def test_what_nobody_carries_ends_the_run_once_it_is_foretold(bench: Bench) -> None:
    bench.context.expect(lambda: 10**12)  # there is a place for it
    bench.encoders.most_bytes = 1000
    bench.context.expect(lambda: 2000)
    with pytest.raises(ResultTooLarge, match=r"about 2 kB.*carries 1 kB"):
        bench.context.expect(lambda: 2001)
