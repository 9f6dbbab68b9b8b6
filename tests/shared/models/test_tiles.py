"""A picture enlarged in tiles is the picture enlarged at once; memory bounds the tile, and a stop is heard."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.device import Device
from shared.errors import Cancelled, OutOfMemory
from shared.media.frames import Pixels
from shared.models.esrgan import RRDBNet, SRVGGNetCompact
from shared.models.esrgan_weights import network_of, read
from shared.models.store import DEMO_MODELS
from shared.models.tiles import CONTEXT, MOST_FRAMES, SMALLEST, Network, Tiles
from templates.demo_models.train.large_pictures import strokes

CPU = Device("cpu")
FAR = 10_000
NETWORKS: dict[str, Callable[[], RRDBNet | SRVGGNetCompact]] = {
    "pictures": lambda: RRDBNet(features=8, growth=4, blocks=3),
    "pixel-unshuffle": lambda: RRDBNet(features=8, growth=4, blocks=1, unshuffle=2),
    "pixel-unshuffle, once": lambda: RRDBNet(features=8, growth=4, blocks=1, unshuffle=4),
    "videos": lambda: SRVGGNetCompact(features=8, convolutions=8),
    "videos, twice": lambda: SRVGGNetCompact(features=8, convolutions=4, scale=2),
}


@pytest.fixture(params=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> RRDBNet | SRVGGNetCompact:
    torch.manual_seed(2)
    return NETWORKS[request.param]().eval().requires_grad_(False)


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def tiled(network: Network, *, side: int, context: int = CONTEXT) -> Tiles:
    return Tiles(network, CPU, torch.float32, side=side, context=context)


def ignore(done: int, total: int) -> None:
    """Nobody listens."""


def differs(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(("height", "width"), [(65, 101), (130, 33), (1, 90)])
def test_tiles_that_see_as_far_as_the_network_change_nothing(
    network: RRDBNet | SRVGGNetCompact, height: int, width: int
) -> None:
    """Weights as they are drawn reach less far than trained ones; these are made to reach their full distance."""
    for weight in network.parameters():
        weight.mul_(2)
    frames = noise(1, height, width)
    whole = tiled(network, side=FAR)(frames, ignore)
    assert differs(tiled(network, side=32, context=network.reach)(frames, ignore), whole) <= 1
    assert len(np.unique(whole)) > 30


def test_the_context_is_enough_for_networks_that_reach_further(network: RRDBNet | SRVGGNetCompact) -> None:
    frames = noise(1, 90, 100)
    assert differs(tiled(network, side=32)(frames, ignore), tiled(network, side=FAR)(frames, ignore)) <= 1


def test_without_context_seams_show() -> None:
    """Which the tests above would see."""
    torch.manual_seed(0)
    network, frames = SRVGGNetCompact(features=8, convolutions=4), noise(1, 64, 64)
    tiles, whole = (tiled(network, side=side, context=0)(frames, ignore) for side in (32, FAR))
    assert differs(tiles, whole) > 1


def test_a_flat_picture_has_no_rim(network: RRDBNet | SRVGGNetCompact) -> None:
    """Networks see nothing beyond a picture's edge, which they take for black."""
    flat = np.full((1, 20, 28, 3), 200, np.uint8)
    made = tiled(network, side=64)(flat, ignore)[0].astype(int)
    scale = network.scale
    corners = made[[0, 0, -scale, -scale], [0, -scale, 0, -scale]]
    assert np.abs(corners - made[10 * scale, 14 * scale]).max() <= 2


def test_frames_together_are_frames_one_by_one(network: RRDBNet | SRVGGNetCompact) -> None:
    frames = noise(5, 20, 30)
    together = tiled(network, side=64)(frames, ignore)
    alone = [tiled(network, side=64)(frame[None], ignore)[0] for frame in frames]
    assert together.shape == (5, 20 * network.scale, 30 * network.scale, 3)
    assert differs(together, np.stack(alone)) <= 1


@pytest.mark.parametrize(("side", "size", "count"), [(64, (32, 32), 4), (64, (64, 64), 1), (64, (500, 500), 1)])
def test_as_many_frames_go_together_as_make_one_tile(side: int, size: tuple[int, int], count: int) -> None:
    assert tiled(Repeats(), side=side).frames_at_once(*size) == count
    assert tiled(Repeats(), side=side).frames_at_once(1, 1) == MOST_FRAMES


class Repeats:
    """Makes each pixel four of its own; runs out of memory over `most` pixels at once."""

    scale, reach, live_values = 2, 0, 12

    def __init__(self, most: int = 10**9) -> None:
        self.most = most
        self.runs: list[tuple[int, ...]] = []

    def __call__(self, pictures: Tensor) -> Tensor:
        count, _, height, width = pictures.shape
        self.runs.append((count, height, width))
        if count * height * width > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)


def repeated(frames: Pixels) -> Pixels:
    return frames.repeat(2, 1).repeat(2, 2)


@pytest.mark.parametrize("shape", [(1, 300, 200), (7, 60, 50), (3, 1, 1), (2, 129, 1)])
def test_every_pixel_lands_in_its_place(shape: tuple[int, int, int]) -> None:
    frames = noise(*shape)
    assert np.array_equal(tiled(Repeats(), side=64)(frames, ignore), repeated(frames))


@pytest.mark.parametrize("shape", [(1, 300, 200), (9, 64, 64)])
def test_tiles_are_halved_until_they_fit_and_stay_so(shape: tuple[int, int, int]) -> None:
    network, frames = Repeats(most=70 * 70), noise(*shape)
    tiles = tiled(network, side=256)
    assert np.array_equal(tiles(frames, ignore), repeated(frames))
    assert tiles.side == 64
    network.runs.clear()
    assert np.array_equal(tiles(frames, ignore), repeated(frames))
    assert max(count * height * width for count, height, width in network.runs) <= 64 * 64


def test_no_tile_that_is_done_is_done_again_when_memory_runs_out_later() -> None:
    """As another process may take it."""
    network, frames = Repeats(), noise(1, 256, 256)

    def take_memory(done: int, total: int) -> None:
        if done == 2:
            network.most = 32 * 32

    tiles = tiled(network, side=128)
    assert np.array_equal(tiles(frames, take_memory), repeated(frames))
    assert network.runs == [(1, 128, 128)] * 3 + [(1, 64, 64)] + [(1, 32, 32)] * 32


def test_memory_that_holds_no_tile_at_all_is_said() -> None:
    network = Repeats(most=SMALLEST**2 - 1)
    with pytest.raises(OutOfMemory, match="not even a tile of 32 x 32 pixels"):
        tiled(network, side=256)(noise(1, 64, 64), ignore)


def test_other_errors_are_not_retried() -> None:
    class Broken(Repeats):
        def __call__(self, pictures: Tensor) -> Tensor:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        tiled(Broken(), side=64)(noise(1, 64, 64), ignore)


def test_progress_counts_tiles_to_the_last() -> None:
    seen: list[tuple[int, int]] = []
    tiled(Repeats(), side=32)(noise(1, 60, 90), lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]


def test_a_stop_lands_within_one_tile() -> None:
    network = Repeats()

    def stop(done: int, total: int) -> None:
        raise Cancelled("asked")

    with pytest.raises(Cancelled):
        tiled(network, side=32)(noise(1, 320, 320), stop)
    assert len(network.runs) == 1


def test_the_demo_model_in_tiles_is_the_demo_model() -> None:
    network = network_of(read(DEMO_MODELS / "upscale" / "model.safetensors"))
    frames = strokes(np.random.default_rng(0))[None, :100, :90]
    whole = tiled(network, side=FAR)(frames, ignore)
    assert differs(tiled(network, side=64)(frames, ignore), whole) <= 1
