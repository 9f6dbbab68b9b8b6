"""Stable Video Diffusion on a tiny one with random weights; the published sizes without any weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from shared.device import Device
from shared.errors import Cancelled, InvalidInput, ModelUnavailable
from shared.models.image_to_video import ImageToVideo, load, peek
from shared.schemas import ModelSource
from tests.shared.models import tiny_video
from tests.shared.models.recorder import Recorder

library: Any = diffusers  # it is not typed
CPU = Device("cpu")
PICTURE = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
TOLD: dict[str, Any] = {
    "num_frames": 4,
    "num_inference_steps": 2,
    "fps": 6,
    "motion_bucket_id": 127,
    "noise_aug_strength": 0.02,
    "min_guidance_scale": 1.0,
    "max_guidance_scale": 3.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
    return tiny_video.stable_video_diffusion(tmp_path_factory.mktemp("video") / "svd")


@pytest.fixture(scope="module")
def model(folder: Path) -> ImageToVideo:
    return load(source(folder), CPU)


def source(path: Path) -> ModelSource:
    return ModelSource("ours/tiny", "main", path)


def animate(
    model: ImageToVideo,
    ctx: Recorder | None = None,
    *,
    image: Image.Image = PICTURE,
    seed: int = 3,
    at_once: int = 4,
    share: float = 1.0,
    preview: bool = False,
    **told: Any,
) -> NDArray[np.uint8]:
    """All frames: (frames, height, width, 3)."""
    frames = model.animate(
        image, seed, ctx or Recorder(), at_once=at_once, share=share, preview=preview, **{**TOLD, **told}
    )
    return np.stack(list(frames))


@pytest.mark.parametrize("at_once", [1, 3, 4, 8])
def test_the_frames_are_those_of_diffusers(model: ImageToVideo, folder: Path, at_once: int) -> None:
    pipe = library.StableVideoDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    theirs = pipe(PICTURE, 48, 64, generator=generator, decode_chunk_size=at_once, output_type="pil", **TOLD).frames
    ours = animate(model, at_once=at_once)
    assert ours.shape == (4, 48, 64, 3)
    assert np.array_equal(ours, np.stack([np.asarray(image) for image in theirs[0]]))


def test_frames_decoded_together_are_made_to_agree(model: ImageToVideo) -> None:
    assert not np.array_equal(animate(model, at_once=1), animate(model, at_once=4))


@pytest.mark.parametrize(
    ("told", "steps"),
    [
        ({"num_inference_steps": 3, "at_once": 4}, 3 + 1),
        ({"num_inference_steps": 3, "at_once": 3}, 3 + 2),
        ({"num_inference_steps": 1, "at_once": 1}, 1 + 4),
    ],
)
def test_every_step_and_every_decoded_piece_is_reported(
    model: ImageToVideo, told: dict[str, Any], steps: int
) -> None:
    ctx = Recorder()
    animate(model, ctx, **told)
    assert ctx.steps == [(n + 1, steps) for n in range(steps)]


def test_a_share_of_the_progress_is_left_for_what_follows(model: ImageToVideo) -> None:
    ctx = Recorder()
    animate(model, ctx, share=0.8, at_once=3, num_inference_steps=5)
    assert [step for step, _ in ctx.steps] == list(range(1, 8))
    last, steps = ctx.steps[-1]
    assert 0.7 < last / steps <= 0.8


def test_frames_come_as_they_are_decoded(model: ImageToVideo) -> None:
    ctx = Recorder()
    frames = model.animate(PICTURE, 3, ctx, at_once=2, share=1.0, preview=False, **TOLD)
    next(frames)
    assert ctx.steps[-1] == (3, 4)
    next(frames)
    assert ctx.steps[-1] == (3, 4)
    next(frames)
    assert ctx.steps[-1] == (4, 4)


@pytest.mark.parametrize("stop_at", [2, 5, 6], ids=["step", "first piece", "second piece"])
def test_a_stop_lands_at_its_step_and_leaves_no_trace(model: ImageToVideo, stop_at: int) -> None:
    scheduler, undisturbed = vars(model.parts["scheduler"]).copy(), animate(model, at_once=2, num_inference_steps=4)
    stopped = Recorder(stop_at=stop_at)
    with pytest.raises(Cancelled, match="asked"):
        animate(model, stopped, at_once=2, num_inference_steps=4)
    assert stopped.steps[-1] == (stop_at, 6)
    assert repr(vars(model.parts["scheduler"])) == repr(scheduler)
    assert np.array_equal(animate(model, at_once=2, num_inference_steps=4), undisturbed)


def test_the_same_seed_draws_the_same_video_and_another_another(model: ImageToVideo) -> None:
    one, same, other = animate(model), animate(model), animate(model, seed=4)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "told",
    [
        {"fps": 24},
        {"motion_bucket_id": 20},
        {"noise_aug_strength": 0.5},
        {"min_guidance_scale": 2.5},
        {"max_guidance_scale": 6.0},
        {"num_inference_steps": 3},
        {"image": PICTURE.transpose(Image.Transpose.FLIP_TOP_BOTTOM)},
    ],
    ids=lambda told: next(iter(told)),
)
def test_what_is_told_changes_the_video(model: ImageToVideo, told: dict[str, Any]) -> None:
    assert not np.array_equal(animate(model), animate(model, **told))


@pytest.mark.parametrize("num_frames", [2, 5, 9])
def test_other_lengths_than_it_was_made_for_are_drawn(model: ImageToVideo, num_frames: int) -> None:
    assert model.num_frames == 4
    assert len(animate(model, num_frames=num_frames)) == num_frames


@pytest.mark.parametrize("most", [0.0, 1.0, 1 + 1e-9])
def test_guidance_up_to_one_is_none(model: ImageToVideo, most: float) -> None:
    """One that precision rounds to 1 is none as well."""
    told: dict[str, Any] = {"min_guidance_scale": 0.0, "num_inference_steps": 1}
    assert np.array_equal(
        animate(model, max_guidance_scale=most, **told), animate(model, max_guidance_scale=0.5, **told)
    )


def test_sides_that_its_networks_cannot_halve_are_refused(model: ImageToVideo) -> None:
    assert model.multiple == 16
    with pytest.raises(InvalidInput, match="'ours/tiny' draws frames whose sides are multiples of 16, not 72 x 48"):
        animate(model, image=PICTURE.resize((72, 48)))


def test_a_decoder_left_in_another_precision_is_put_right(folder: Path) -> None:
    model = load(source(folder), CPU)
    before = animate(model)
    model.parts["vae"].to(torch.float64)
    assert np.array_equal(animate(model), before)


@dataclass(frozen=True)
class Card(Device):
    """A device with so much free memory, in gigabytes."""

    free: float = 0
    dtype: Any = torch.float16

    def memory_free(self) -> int:
        return int(self.free * 1e9)


@pytest.mark.parametrize("most", [3.0, 1.0002])
def test_in_half_precision_the_video_is_nearly_the_same(model: ImageToVideo, folder: Path, most: float) -> None:
    """As on a card; the guidance of 1.0002 is 1 there."""
    half = load(source(folder), Card("cpu"))
    assert half.parts["unet"].dtype == half.parts["vae"].dtype == torch.float16
    frames = [animate(each, max_guidance_scale=most).astype(int) for each in (half, model)]
    assert half.parts["vae"].dtype == torch.float16
    assert abs(frames[0] - frames[1]).mean() < 1


@pytest.mark.parametrize(
    ("free", "half", "single"), [(0, 4, 4), (0.5, 1, 1), (5, 1, 1), (6, 2, 1), (18, 4, 2), (30, 8, 4), (200, 8, 8)]
)
def test_frames_are_decoded_together_as_memory_allows(
    model: ImageToVideo, free: float, half: int, single: int
) -> None:
    for dtype, expected in ((torch.float16, half), (torch.float32, single)):
        roomy = ImageToVideo(model.source, model.parts, Card("cpu", free=free, dtype=dtype))
        assert roomy.frames_at_once(1024, 576) == expected


@pytest.mark.parametrize("at_once", [1, 4])
def test_previews_are_small_pictures_and_change_nothing(model: ImageToVideo, at_once: int) -> None:
    ctx = Recorder(previews=True)
    shown = animate(model, ctx, preview=True, at_once=at_once, num_inference_steps=3)
    assert [picture.size for picture in ctx.pictures] == [(64, 48)] * 3
    assert np.array_equal(shown, animate(model, at_once=at_once, num_inference_steps=3))


def test_the_last_preview_is_the_first_frame(model: ImageToVideo) -> None:
    ctx = Recorder(previews=True)
    frames = animate(model, ctx, preview=True, at_once=1)
    assert np.array_equal(np.asarray(ctx.pictures[-1]), frames[0])


def test_noise_is_shown_no_louder_than_a_picture(model: ImageToVideo) -> None:
    pipe, latents = model._pipeline(), torch.randn(1, 4, 4, 8, 8)
    pipe.scheduler.set_timesteps(2)
    loud = latents * (pipe.scheduler.sigmas[0] ** 2 + 1) ** 0.5
    shown, meant = (np.asarray(peek(pipe, each, step), int) for each, step in ((loud, 0), (latents, 2)))
    assert abs(shown - meant).max() <= 1


def test_a_preview_of_a_large_video_is_decoded_small(model: ImageToVideo) -> None:
    pipe = model._pipeline()
    pipe.scheduler.set_timesteps(2)
    assert peek(pipe, torch.randn(1, 4, 4, 32, 64), 1).size == (256, 128)


def test_each_job_has_a_scheduler_of_its_own_over_the_same_parts(model: ImageToVideo) -> None:
    one, other = model._pipeline(), model._pipeline()
    assert len({id(part) for part in (one.scheduler, other.scheduler, model.parts["scheduler"])}) == 3
    assert one.scheduler.config == model.parts["scheduler"].config
    for name in ("unet", "vae", "image_encoder", "feature_extractor"):
        assert getattr(one, name) is getattr(other, name) is model.parts[name]


def test_another_pipelines_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ModelUnavailable, match="'ours/tiny' is a StableDiffusionPipeline; what animates"):
        load(source(tmp_path), CPU)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["cut", "gone"])
@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder"])
def test_damaged_weights_are_named(folder: Path, tmp_path: Path, part: str, damage: Callable[[Path], None]) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "svd"))
    damage(next((copy / part).glob("*.safetensors")))
    with pytest.raises(ModelUnavailable, match="files of 'ours/tiny' cannot be loaded"):
        load(source(copy), CPU)


def test_tells_where_the_time_of_a_load_went(model: ImageToVideo) -> None:
    assert set(model.loading) == {"imports_s", "read_ahead_s", "read_ahead_bytes", "files_s", "to_device_s"}


def published() -> ImageToVideo:
    """The networks of stable-video-diffusion-img2vid-xt, with shapes and without weights."""
    with torch.device("meta"):
        unet = library.UNetSpatioTemporalConditionModel()
        vae = library.AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(128, 256, 512, 512), layers_per_block=2
        )
    parts = {"unet": unet.to("meta"), "vae": vae.to("meta"), "scheduler": tiny_video.scheduler()}
    return ImageToVideo(ModelSource("the/published", "main", Path()), parts, Card("cpu"))


def test_the_published_networks_have_their_known_sizes_and_take_the_default_shape() -> None:
    """3.05 GB and 0.2 GB in half precision; 25 frames of 1024 x 576."""
    model = published()
    unet, vae = model.parts["unet"], model.parts["vae"]
    sizes = [sum(parameter.numel() for parameter in part.parameters()) for part in (unet, vae)]
    assert sizes == pytest.approx([1.525e9, 97.7e6], rel=1e-3)
    assert (model.num_frames, model.multiple) == (25, 64)
    assert 1024 % model.multiple == 576 % model.multiple == 0
    with torch.no_grad(), torch.device("meta"):
        latents = torch.empty(1, 25, 8, 72, 128)
        seen, conditions = torch.empty(1, 1, 1024), torch.empty(1, 3)
        assert unet(latents, torch.empty(()), seen, conditions).sample.shape == (1, 25, 4, 72, 128)
        assert vae.decode(torch.empty(8, 4, 72, 128), num_frames=8).sample.shape == (8, 3, 576, 1024)
