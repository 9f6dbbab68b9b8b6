"""Frames between frames: their times, what is computed once, tiles, memory that runs out, and stops."""

import itertools
import weakref
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from shared.device import Device
from shared.errors import Cancelled
from shared.media.frames import Pixels
from shared.models.film import Encoded, Flows
from shared.models.interpolator import LEAST_PIXELS, Interpolator
from tests.shared.models.films import SMALL, Blend, random_film

CPU = Device("cpu")
HALVES = [Fraction(k, 8) for k in range(1, 8)]
THIRDS = [Fraction(1, 3), Fraction(2, 3)]


def frame(shade: int, height: int = 40, width: int = 56) -> Pixels:
    return np.full((height, width, 3), shade, np.uint8)


def noise(seed: int, height: int = 40, width: int = 56) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def between(
    model: Interpolator,
    first: Pixels,
    last: Pixels,
    times: list[Fraction],
    check: Callable[[], None] = lambda: None,
) -> list[Pixels]:
    return list(model.clip(check).between(first, last, times))


@pytest.mark.parametrize("times", [[Fraction(1, 2)], HALVES, THIRDS, [Fraction(1, 100), Fraction(12, 25)]], ids=str)
def test_each_frame_lies_at_its_time(times: list[Fraction]) -> None:
    drawn = between(Interpolator(Blend(), CPU), frame(0), frame(240), times)
    for pixels, time in zip(drawn, times, strict=True):
        assert np.abs(pixels.astype(int) - round(240 * float(time))).max() <= 1


def test_halves_of_halves_are_drawn_by_middles_alone() -> None:
    film = Blend()
    between(Interpolator(film, CPU), frame(0), frame(240), HALVES)
    assert film.times == [0.5] * 7


def test_other_times_are_left_to_the_network_within_a_half() -> None:
    """1/3 lies two thirds into the first half, and 2/3 a third into the second."""
    film = Blend()
    between(Interpolator(film, CPU), frame(0), frame(240), THIRDS)
    assert film.times == pytest.approx([0.5, 2 / 3, 1 / 3])


def test_no_frame_is_drawn_before_it_is_asked_for() -> None:
    film = Blend()
    frames = Interpolator(film, CPU).clip(lambda: None).between(frame(0), frame(240), HALVES)
    assert film.times == []
    next(frames)
    assert len(film.times) == 3  # the middle, the quarter, the eighth


def test_a_frames_features_are_computed_once_for_both_of_its_pairs() -> None:
    film, frames = Blend(), [frame(shade) for shade in (0, 80, 160, 240)]
    clip = Interpolator(film, CPU).clip(lambda: None)
    for first, last in itertools.pairwise(frames):
        assert len(list(clip.between(first, last, [Fraction(1, 2)]))) == 1
    assert len(film.encoded) == len(frames)


def test_the_flows_of_a_pair_are_computed_once_for_all_times_in_it() -> None:
    """Fifths: the middle, then two in each half."""
    film = Blend()
    drawn = between(Interpolator(film, CPU), frame(0), frame(240), [Fraction(k, 5) for k in range(1, 5)])
    assert [int(pixels[0, 0, 0]) for pixels in drawn] == [48, 96, 144, 192]
    assert (len(film.times), film.pairs) == (5, 3)


def test_a_pair_that_does_not_follow_the_last_one_is_drawn_from_its_own_frames() -> None:
    clip, half = Interpolator(Blend(), CPU).clip(lambda: None), [Fraction(1, 2)]
    list(clip.between(frame(80), frame(0), half))
    (drawn,) = clip.between(frame(100), frame(200), half)
    assert drawn[0, 0, 0] == 150


def test_sides_that_the_network_cannot_halve_are_made_up_for() -> None:
    (drawn,) = between(Interpolator(random_film(), CPU), noise(1, 41, 57), noise(2, 41, 57), [Fraction(1, 2)])
    assert drawn.shape == (41, 57, 3)
    assert drawn.dtype == np.uint8


def test_the_edge_is_repeated_into_the_padding() -> None:
    seen = []

    class Looking(Blend):
        def encode(self, image: torch.Tensor) -> Encoded:
            seen.append(image)
            return super().encode(image)

    pixels = noise(1, 41, 57)
    between(Interpolator(Looking(), CPU), pixels, pixels, [Fraction(1, 2)])
    image = seen[0]
    assert image.shape == (1, 3, 48, 64)
    assert SMALL.multiple == 8
    assert torch.equal(image[..., 41:, :], image[..., 40:41, :].expand(1, 3, 7, 64))
    assert torch.equal(image[..., 57:], image[..., 56:57].expand(1, 3, 48, 7))
    assert np.array_equal((image[0, :, :41, :57].permute(1, 2, 0) * 255).round().numpy(), pixels)


def test_the_same_frames_give_the_same_bytes() -> None:
    model = Interpolator(random_film(), CPU)
    one, two = (between(model, noise(1), noise(2), THIRDS) for _ in range(2))
    assert [pixels.tobytes() for pixels in one] == [pixels.tobytes() for pixels in two]


def test_large_frames_are_drawn_in_tiles() -> None:
    film, first, last = Blend(), noise(1, 400, 700), noise(2, 400, 700)
    (tiled,) = between(Interpolator(film, CPU, most_pixels=LEAST_PIXELS), first, last, [Fraction(1, 2)])
    assert max(film.encoded) <= LEAST_PIXELS
    (whole,) = between(Interpolator(Blend(), CPU), first, last, [Fraction(1, 2)])
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= 1


def test_tiles_show_no_seam_where_nothing_moves_far() -> None:
    """Against the whole frame at once, in the network whose every pixel depends on those around it."""
    film, first, last = random_film(), noise(1, 392, 800), noise(2, 392, 800)
    (tiled,) = between(Interpolator(film, CPU, most_pixels=LEAST_PIXELS), first, last, [Fraction(1, 2)])
    (whole,) = between(Interpolator(film, CPU), first, last, [Fraction(1, 2)])
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= 2


def test_out_of_memory_halves_what_is_drawn_at_once_and_goes_on() -> None:
    film = Blend(room=600 * 500)
    model = Interpolator(film, CPU, most_pixels=4 * LEAST_PIXELS)
    first, last = noise(1, 700, 800), noise(2, 700, 800)
    (drawn,) = between(model, first, last, [Fraction(1, 2)])
    (whole,) = between(Interpolator(Blend(), CPU), first, last, [Fraction(1, 2)])
    assert np.abs(drawn.astype(int) - whole.astype(int)).max() <= 1


def test_memory_that_ran_out_counts_until_the_video_ends() -> None:
    film = Blend(room=600 * 500)
    model = Interpolator(film, CPU, most_pixels=4 * LEAST_PIXELS)
    pictures = [noise(seed, 700, 800) for seed in range(3)]
    clip = model.clip(lambda: None)
    list(clip.between(pictures[0], pictures[1], [Fraction(1, 2)]))
    film.encoded.clear()
    film.room = 2**30
    list(clip.between(pictures[1], pictures[2], [Fraction(1, 2)]))
    assert max(film.encoded) <= 2 * LEAST_PIXELS
    between(model, pictures[0], pictures[1], [Fraction(1, 2)])
    assert max(film.encoded) > 2 * LEAST_PIXELS  # of another video, which finds more room


def test_what_filled_the_memory_is_let_go_before_the_next_attempt() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    class Tight(Blend):
        def encode(self, image: torch.Tensor) -> Encoded:
            large = [ref for ref in held if (tensor := ref()) is not None and tensor[0, 0].numel() > LEAST_PIXELS]
            assert not large or image[0, 0].numel() > LEAST_PIXELS
            features = image.clone()
            held.append(weakref.ref(features))
            return Encoded([image], [features])

        def flows(self, first: Encoded, last: Encoded) -> Flows:
            if first.images[0][0, 0].numel() > LEAST_PIXELS:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().flows(first, last)

    model = Interpolator(Tight(), CPU, most_pixels=2 * LEAST_PIXELS)
    assert len(between(model, noise(1, 400, 700), noise(2, 400, 700), [Fraction(1, 2)])) == 1
    assert len(held) > 2


def test_memory_that_is_too_small_for_any_tile_ends_the_job() -> None:
    model = Interpolator(Blend(room=10), CPU)
    with pytest.raises(torch.OutOfMemoryError):
        between(model, noise(1), noise(2), [Fraction(1, 2)])


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(Blend):
        def flows(self, first: Encoded, last: Encoded) -> Flows:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        between(Interpolator(Broken(), CPU), noise(1), noise(2), [Fraction(1, 2)])


@pytest.mark.parametrize("most_pixels", [2**30, LEAST_PIXELS], ids=["whole", "tiles"])
def test_a_stop_lands_before_the_next_piece(most_pixels: int) -> None:
    checks, pieces = itertools.count(1), 0

    def check() -> None:
        nonlocal pieces
        if (pieces := next(checks)) == 4:
            raise Cancelled("asked")

    film = Blend()
    with pytest.raises(Cancelled):
        between(
            Interpolator(film, CPU, most_pixels=most_pixels), noise(1, 400, 700), noise(2, 400, 700), HALVES, check
        )
    assert pieces == 4
    assert len(film.times) <= 1


def test_a_frame_between_is_rounded_not_cut() -> None:
    (drawn,) = between(Interpolator(Blend(), CPU), frame(10), frame(13), [Fraction(1, 2)])
    assert drawn[0, 0, 0] == 12


def test_without_times_nothing_is_computed() -> None:
    film = Blend()
    assert between(Interpolator(film, CPU), frame(0), frame(1), []) == []
    assert film.encoded == []
