"""A checkpoint on disk becomes an upscaler: its settings, its factor, and what becomes of transparency."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw
from safetensors.torch import save_file

from shared.device import Device
from shared.errors import InvalidInput, ModelUnavailable
from shared.media.frames import Pixels
from shared.models.esrgan import Network, RRDBNet, SRVGGNetCompact
from shared.models.store import DEMO_MODELS
from shared.models.upscaler import Enlarger, Upscaler, load, weights_file
from shared.schemas import ModelSource

CPU = Device("cpu")
STRONG, WEAK = "realesr-general-x4v3", "realesr-general-wdn-x4v3"
GRADIENT = Image.linear_gradient("L").resize((12, 10)).convert("RGB")


def source(path: Path) -> ModelSource:
    return ModelSource("some/model", "main", path)


def write(path: Path, seed: int = 0, network: type[Network] | None = None) -> Network:
    torch.manual_seed(seed)
    made: Network = RRDBNet(features=4, growth=2, blocks=1) if network is RRDBNet else _compact()
    if path.suffix == ".pth":
        torch.save({"params": made.state_dict()}, path)
    else:
        save_file(made.state_dict(), path)
    return made


def _compact() -> SRVGGNetCompact:
    return SRVGGNetCompact(features=4, convolutions=1)


def ignore(done: int, total: int) -> None:
    """Nobody listens."""


def begin(
    model: Upscaler, scale: float | None = None, denoise_strength: float | None = None, tile: int | None = None
) -> Enlarger:
    return model.begin(scale=scale, denoise_strength=denoise_strength, tile=tile)


def picture(model: Upscaler, image: Image.Image = GRADIENT, denoise_strength: float | None = None) -> Pixels:
    return np.asarray(begin(model, denoise_strength=denoise_strength).picture(image, ignore))


@pytest.fixture(scope="module")
def demo() -> Upscaler:
    return load(source(DEMO_MODELS / "upscale"), CPU)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("in_folder", [True, False])
def test_a_file_and_the_folder_of_one_load_alike(tmp_path: Path, suffix: str, *, in_folder: bool) -> None:
    file = tmp_path / f"network{suffix}"
    network = write(file, network=RRDBNet)
    model = load(source(tmp_path if in_folder else file), CPU)
    given = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(model.network(given), network(given), check_stride=False)
    assert model.scale == 4
    assert set(model.loading) == {"files_s", "to_device_s"}


def test_safetensors_are_preferred_to_the_same_in_pth(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        (tmp_path / f"network{suffix}").touch()
    assert weights_file(tmp_path).name == "network.safetensors"


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "has no .safetensors or .pth file"), (("a.pth", "b.safetensors"), "has a.pth, b.safetensors; name one")],
)
def test_a_folder_must_have_one_checkpoint(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ModelUnavailable) as caught:
        weights_file(tmp_path)
    assert message in caught.value.message


@pytest.fixture
def denoiser(tmp_path: Path) -> Upscaler:
    """As general-x4v3 lies on a volume: beside its weak twin."""
    write(tmp_path / f"{STRONG}.pth", seed=1)
    write(tmp_path / f"{WEAK}.pth", seed=2)
    return load(source(tmp_path), CPU)


def test_strength_goes_from_the_weak_network_to_the_strong_one(denoiser: Upscaler, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    write(alone / "strong.pth", seed=1)
    write(alone / "weak.pth", seed=2)
    strong, weak = (picture(load(source(alone / f"{name}.pth"), CPU)) for name in ("strong", "weak"))
    assert not np.array_equal(strong, weak)
    assert np.array_equal(picture(denoiser, denoise_strength=1.0), strong)
    assert np.array_equal(picture(denoiser, denoise_strength=0.0), weak)
    between = picture(denoiser, denoise_strength=0.5)
    assert not np.array_equal(between, strong)
    assert not np.array_equal(between, weak)
    assert np.array_equal(picture(denoiser), strong), "the strength of the job before must not stay"


def test_strength_is_refused_where_a_model_has_none(demo: Upscaler, denoiser: Upscaler, tmp_path: Path) -> None:
    for model in (demo, load(source(tmp_path / f"{WEAK}.pth"), CPU)):
        with pytest.raises(InvalidInput, match="has no denoise_strength; realesr-general-x4v3 has"):
            begin(model, denoise_strength=0.5)


@pytest.mark.parametrize(("scale", "size"), [(None, (44, 28)), (2, (22, 14)), (2.5, (28, 18)), (3, (33, 21))])
def test_other_factors_than_the_networks_are_reached_by_resampling(
    demo: Upscaler, scale: float | None, size: tuple[int, int]
) -> None:
    enlarger = begin(demo, scale)
    image = GRADIENT.resize((11, 7))
    made = enlarger.picture(image, ignore)
    assert made.size == enlarger.size(11, 7) == size
    (frame,) = enlarger.frames([np.asarray(image)], ignore)
    assert np.array_equal(frame, np.asarray(made))
    assert enlarger.most_pixels(11, 7) == 44 * 28


def test_grey_becomes_colour_and_a_single_pixel_is_a_picture(demo: Upscaler) -> None:
    made = begin(demo).picture(Image.new("L", (1, 1), 128), ignore)
    assert (made.mode, made.size) == ("RGB", (4, 4))


def disc(ground: tuple[int, int, int, int]) -> Image.Image:
    """A red disc, antialiased, on transparent pixels of some colour."""
    large = Image.new("L", (256, 256))
    ImageDraw.Draw(large).ellipse((40, 40, 216, 216), fill=255)
    alpha = large.resize((32, 32), Image.Resampling.BOX)
    image = Image.new("RGBA", alpha.size, ground)
    image.paste((220, 40, 40, 255), mask=alpha.point(lambda shade: 255 if shade else 0))
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("ground", [(0, 0, 0, 0), (0, 255, 255, 0)])
def test_a_transparent_edge_keeps_its_colour_whatever_lies_under_it(
    demo: Upscaler, ground: tuple[int, int, int, int]
) -> None:
    made = begin(demo).picture(disc(ground), ignore)
    assert (made.mode, made.size) == ("RGBA", (128, 128))
    colours, alpha = np.asarray(made.convert("RGB")).astype(int), np.asarray(made.getchannel("A"))
    assert (alpha[0, 0], alpha[64, 64]) == (0, 255)
    rim = colours[(alpha > 40) & (alpha < 255)]
    assert len(rim) > 50
    assert np.abs(rim - (220, 40, 40)).max() < 40


def test_transparency_gets_sharper_edges_than_by_resampling(demo: Upscaler) -> None:
    image = disc((0, 0, 0, 0))
    soft = image.getchannel("A").resize((128, 128), Image.Resampling.BICUBIC)
    sharp = begin(demo).picture(image, ignore).getchannel("A")
    half, whole = (
        np.asarray(ImageChops.difference(edge, edge.point(lambda a: 255 if a > 127 else 0))) for edge in (sharp, soft)
    )
    assert half.sum() < 0.8 * whole.sum()


def test_an_opaque_picture_with_alpha_is_the_picture_without(demo: Upscaler) -> None:
    plain, opaque = picture(demo), picture(demo, GRADIENT.convert("RGBA"))
    assert np.array_equal(opaque[..., :3], plain)
    assert opaque[..., 3].min() == 255


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "models--ours--denoiser" / "snapshots" / ("1" * 40)
    folder.mkdir(parents=True)
    for name, seed in ((STRONG, 1), (WEAK, 2)):
        write(folder / f"{name}.pth", seed)
    return folder


def test_a_pickle_of_the_hub_is_read_only_where_its_hash_is_allowed(snapshot: Path) -> None:
    strong, weak = snapshot / f"{STRONG}.pth", snapshot / f"{WEAK}.pth"
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (strong, weak)}

    def loaded(**pickles: str) -> Upscaler:
        options = {"pickles": {f"{name}.pth": sha256 for name, sha256 in pickles.items()}}
        return load(ModelSource("ours/denoiser", snapshot.name, strong, options), CPU)

    assert loaded(**{STRONG: hashes[strong.name], WEAK: hashes[weak.name]}).weak
    assert not loaded(**{STRONG: hashes[strong.name]}).weak  # another entry's
    with pytest.raises(ModelUnavailable, match=rf"{STRONG}\.pth is a pickle that models\.json does not allow"):
        loaded()
    for name in (STRONG, WEAK):
        with pytest.raises(ModelUnavailable, match=rf"{name}\.pth is another pickle .* its sha256 differs"):
            loaded(**{STRONG: hashes[strong.name], WEAK: hashes[weak.name], name: "0" * 64})
