"""LTX-Video and Wan on tiny ones with random weights: the videos are those of diffusers' own pipelines."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.wan import pipeline_wan_i2v
from numpy.typing import NDArray
from PIL import Image

from shared.device import Device
from shared.errors import Cancelled, InvalidInput, ModelUnavailable
from shared.models.ltx_video import DECODE_NOISE_SCALE, DECODE_TIMESTEP, LtxVideo
from shared.models.prompted_video import PromptedVideo
from shared.models.video_families import family_of
from shared.models.wan_video import TOKENS, WanVideo
from shared.schemas import ModelSource
from tests.shared.models import tiny_prompted_video as tiny
from tests.shared.models.recorder import Recorder

library: Any = diffusers  # it is not typed
CPU = Device("cpu")
PICTURE = Image.linear_gradient("L").resize((64, 32)).convert("RGB")
TOLD: dict[str, Any] = {
    "num_frames": 9,
    "num_inference_steps": 2,
    "fps": 10,
    "prompt": "a red circle",
    "negative_prompt": "a blue square",
    "guidance_scale": 3.0,
}
KINDS: dict[str, Callable[[Path], Path]] = {
    "ltx": tiny.ltx,
    "ltx-0.9.1": lambda folder: tiny.ltx(folder, denoising_decoder=True),
    "wan-2.1": tiny.wan_21,
    "wan-2.2-a14b": tiny.wan_22_two_stages,
    "wan-2.2-5b": tiny.wan_22_small,
}
SOME = ("ltx", "wan-2.1")  # where the family is all that matters
PIECES = {"ltx": 1, "wan-2.1": 3}  # in which nine frames are decoded


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
    return {kind: make(tmp_path_factory.mktemp(kind) / "model") for kind, make in KINDS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, PromptedVideo]:
    return {kind: load(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def drawn(models: dict[str, PromptedVideo]) -> dict[str, NDArray[np.uint8]]:
    """What the models draw where a test changes nothing."""
    return {kind: animate(models[kind]) for kind in SOME}


@pytest.fixture(params=SOME)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(models: dict[str, PromptedVideo], kind: str) -> PromptedVideo:
    return models[kind]


def load(folder: Path, device: Device = CPU) -> PromptedVideo:
    source = ModelSource("ours/tiny", "main", folder)
    family = family_of(source)
    return (LtxVideo if family.kind == "ltx" else WanVideo).load(source, family, device)


def animate(
    model: PromptedVideo,
    ctx: Recorder | None = None,
    *,
    image: Image.Image = PICTURE,
    seed: int = 3,
    share: float = 1.0,
    preview: bool = False,
    **told: Any,
) -> NDArray[np.uint8]:
    """All frames: (frames, height, width, 3)."""
    return np.stack(
        list(model.animate(image, seed, ctx or Recorder(), share=share, preview=preview, **{**TOLD, **told}))
    )


def by_diffusers(model: PromptedVideo, dtype: Any, **told: Any) -> NDArray[np.uint8]:
    """All frames, as its own pipeline draws them from the same files."""
    told = {**TOLD, **told}
    fps = told.pop("fps")
    decoding = {"decode_timestep": DECODE_TIMESTEP, "decode_noise_scale": DECODE_NOISE_SCALE}
    own = {"frame_rate": fps, **decoding} if model.family.kind == "ltx" else {}
    pipeline = getattr(library, model.family.pipeline)
    pipe = pipeline.from_pretrained(model.source.path, dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    size = {"width": PICTURE.width, "height": PICTURE.height}
    generator = torch.Generator("cpu").manual_seed(3)
    frames = pipe(PICTURE, generator=generator, output_type="pil", **size, **told, **own).frames
    return np.stack([np.asarray(image) for image in frames[0]])


@pytest.fixture
def plain_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' Wan pipeline cleans prompts with ftfy, which leaves those of these tests as they are."""
    monkeypatch.setattr(pipeline_wan_i2v, "ftfy", SimpleNamespace(fix_text=str), raising=False)


@pytest.mark.usefixtures("plain_prompts")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0], ids=["unguided", "guided"])
def test_the_frames_are_those_of_diffusers(
    models: dict[str, PromptedVideo], kind: str, guidance_scale: float
) -> None:
    told: dict[str, Any] = {"guidance_scale": guidance_scale, "prompt": " a red &amp;amp;  blue\n circle"}
    ours = animate(models[kind], **told)
    assert ours.shape == (9, 32, 64, 3)
    assert np.array_equal(ours, by_diffusers(models[kind], torch.float32, **told))


def test_every_step_and_every_decoded_piece_is_reported(model: PromptedVideo, kind: str) -> None:
    ctx = Recorder()
    animate(model, ctx, num_inference_steps=3)
    steps = 3 + PIECES[kind]
    assert ctx.steps == [(n + 1, steps) for n in range(steps)]


def test_a_share_of_the_progress_is_left_for_what_follows(model: PromptedVideo) -> None:
    ctx = Recorder()
    animate(model, ctx, share=0.8, num_inference_steps=5)
    last, steps = ctx.steps[-1]
    assert 0.7 < last / steps <= 0.8


def test_frames_come_as_they_are_decoded(models: dict[str, PromptedVideo]) -> None:
    ctx = Recorder()
    frames = models["wan-2.1"].animate(PICTURE, 3, ctx, share=1.0, preview=False, **TOLD)
    next(frames)
    assert ctx.steps[-1] == (3, 5)
    next(frames)
    assert ctx.steps[-1] == (4, 5)


@pytest.mark.parametrize("stop_at", [1, 3], ids=["step", "decoding"])
def test_a_stop_lands_at_its_step_and_leaves_no_trace(
    model: PromptedVideo, kind: str, stop_at: int, drawn: dict[str, NDArray[np.uint8]]
) -> None:
    scheduler = repr(vars(model.parts["scheduler"]))
    stopped = Recorder(stop_at=stop_at)
    with pytest.raises(Cancelled, match="asked"):
        animate(model, stopped)
    assert stopped.steps[-1][0] == stop_at
    assert repr(vars(model.parts["scheduler"])) == scheduler
    assert np.array_equal(animate(model), drawn[kind])


class Stopped(Recorder):
    """Stops the job when its context is next looked at, as between two pieces of work that are no steps."""

    def check(self) -> None:
        raise Cancelled("asked")


def test_a_stop_while_the_prompt_is_read_comes_before_the_first_step(model: PromptedVideo) -> None:
    ctx = Stopped()
    with pytest.raises(Cancelled):
        animate(model, ctx)
    assert ctx.steps == []


def test_the_same_seed_draws_the_same_video_and_another_another(
    model: PromptedVideo, kind: str, drawn: dict[str, NDArray[np.uint8]]
) -> None:
    assert np.array_equal(animate(model), drawn[kind])
    assert not np.array_equal(animate(model, seed=4), drawn[kind])


@pytest.mark.parametrize(
    "told",
    [
        {"prompt": "a blue square"},
        {"negative_prompt": "a red circle"},
        {"guidance_scale": 6.0},
        {"num_inference_steps": 3},
        {"image": PICTURE.transpose(Image.Transpose.FLIP_TOP_BOTTOM)},
    ],
    ids=lambda told: next(iter(told)),
)
def test_what_is_told_changes_the_video(
    model: PromptedVideo, kind: str, told: dict[str, Any], drawn: dict[str, NDArray[np.uint8]]
) -> None:
    assert not np.array_equal(animate(model, **told), drawn[kind])


def test_only_ltx_is_told_of_the_rate(models: dict[str, PromptedVideo], drawn: dict[str, NDArray[np.uint8]]) -> None:
    assert not np.array_equal(animate(models["ltx"], fps=25), drawn["ltx"])
    assert np.array_equal(animate(models["wan-2.1"], fps=25), drawn["wan-2.1"])


def test_a_prompt_goes_as_far_as_its_tokens(models: dict[str, PromptedVideo]) -> None:
    one, longer = (animate(models["wan-2.1"], prompt="a" * (TOKENS + more)) for more in (0, 40))
    assert np.array_equal(one, longer)


@pytest.mark.parametrize(
    ("kind", "num_frames", "allowed"),
    [
        ("ltx", 10, "9 or 17"),
        ("ltx", 8, "9"),
        ("wan-2.1", 2, "5"),
        ("wan-2.1", 12, "9 or 13"),
        ("ltx", 256, "249 or 257"),
    ],
)
def test_lengths_that_its_decoder_cannot_make_are_refused_with_those_near(
    models: dict[str, PromptedVideo], kind: str, num_frames: int, allowed: str
) -> None:
    ctx = Recorder()
    with pytest.raises(InvalidInput, match=rf"num_frames is {num_frames}; 'ours/tiny' .*: ask for {allowed}$"):
        animate(models[kind], ctx, num_frames=num_frames)
    assert ctx.steps == []


@pytest.mark.parametrize("num_frames", [5, 13])
def test_other_lengths_are_drawn(models: dict[str, PromptedVideo], num_frames: int) -> None:
    assert len(animate(models["wan-2.1"], num_frames=num_frames)) == num_frames


@pytest.mark.parametrize(
    ("kind", "multiple"), [("ltx", 32), ("wan-2.1", 16), ("wan-2.2-a14b", 16), ("wan-2.2-5b", 32)]
)
def test_sides_that_its_networks_cannot_halve_are_refused(
    models: dict[str, PromptedVideo], kind: str, multiple: int
) -> None:
    assert models[kind].multiple == multiple
    size = (64, 64 + multiple // 2)
    with pytest.raises(
        InvalidInput, match=f"'ours/tiny' draws frames .* multiples of {multiple}, not 64 x {size[1]}"
    ):
        animate(models[kind], image=PICTURE.resize(size))


def test_previews_are_pictures_of_the_last_frame_and_change_nothing(
    model: PromptedVideo, kind: str, drawn: dict[str, NDArray[np.uint8]]
) -> None:
    ctx = Recorder(previews=True)
    assert np.array_equal(animate(model, ctx, preview=True), drawn[kind])
    assert [picture.size for picture in ctx.pictures] == [PICTURE.size] * 2


def test_a_preview_of_a_large_video_is_decoded_small(models: dict[str, PromptedVideo]) -> None:
    latents = torch.randn(1, tiny.CHANNELS, 2, 32, 64)
    wan = models["wan-2.1"]
    assert wan._peek(wan._pipeline(), latents).size == (256, 128)


def test_each_job_has_a_scheduler_of_its_own_over_the_same_parts(model: PromptedVideo) -> None:
    one, other = model._pipeline(), model._pipeline()
    assert len({id(part) for part in (one.scheduler, other.scheduler, model.parts["scheduler"])}) == 3
    assert one.scheduler.config == model.parts["scheduler"].config
    for name in ("transformer", "vae", "text_encoder", "tokenizer"):
        assert getattr(one, name) is getattr(other, name) is model.parts[name]


@dataclass(frozen=True)
class Card(Device):
    """A device that halves precision, as a card does."""

    dtype: Any = torch.float16


@pytest.mark.usefixtures("plain_prompts")
@pytest.mark.parametrize(
    ("kind", "whole"), [("ltx", set()), ("wan-2.1", {"vae", "image_encoder"}), ("wan-2.2-5b", {"vae"})]
)
def test_in_half_precision_the_frames_are_those_of_diffusers_in_bfloat16(
    folders: dict[str, Path], kind: str, whole: set[str]
) -> None:
    """But for the rounding of colours, which diffusers does in bfloat16 too."""
    half = load(folders[kind], Card("cpu"))
    networks = {name: part for name, part in half.parts.items() if isinstance(part, torch.nn.Module)}
    assert {name for name, part in networks.items() if part.dtype == torch.float32} == whole
    assert {part.dtype for name, part in networks.items() if name not in whole} == {torch.bfloat16}
    theirs = by_diffusers(half, {"default": torch.bfloat16, **dict.fromkeys(whole, torch.float32)})
    assert abs(animate(half).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_damaged_weights_are_named(folders: dict[str, Path], tmp_path: Path, part: str) -> None:
    copy = KINDS["ltx"](tmp_path / "ltx")
    file = next((copy / part).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelUnavailable, match="files of 'ours/tiny' cannot be loaded"):
        load(copy)


def test_a_text_encoder_in_a_pickle_is_refused(tmp_path: Path) -> None:
    copy = KINDS["ltx"](tmp_path / "ltx")
    next((copy / "text_encoder").glob("*.safetensors")).rename(copy / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="files of 'ours/tiny' cannot be loaded"):
        load(copy)


def test_tells_where_the_time_of_a_load_went(model: PromptedVideo) -> None:
    assert set(model.loading) == {"imports_s", "read_ahead_s", "read_ahead_bytes", "files_s", "to_device_s"}
