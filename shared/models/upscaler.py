"""A Real-ESRGAN network, warm on its device, that makes pictures and frames larger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter

from shared.errors import InvalidInput, ModelUnavailable
from shared.media.frames import Pixels
from shared.models import esrgan_weights, pickles, placing, spandrel_network
from shared.models.esrgan import blend
from shared.models.esrgan_weights import SUFFIXES, State
from shared.models.spandrel_network import SpandrelNetwork
from shared.models.stages import Stages
from shared.models.tiles import OnTile, Tiles
from shared.schemas import ModelSource

if TYPE_CHECKING:
    from shared.device import Device

WEAK = ("-x4v3", "-wdn-x4v3")  # how Real-ESRGAN names the weights of a network that denoises, and of its weak twin
EDGE = 4  # pixels beside a visible one whose colours matter for its edge


@dataclass
class Upscaler:
    """A network, ready to run; `scale` is its own factor."""

    source: ModelSource
    network: Any = field(repr=False)  # an esrgan.Network, or spandrel's
    device: "Device"
    dtype: torch.dtype
    strong: State = field(default_factory=dict, repr=False)
    weak: State = field(default_factory=dict, repr=False)  # its twin's weights, which leave noise as it is
    loading: dict[str, Any] = field(default_factory=dict)
    kind: Literal["network"] = field(default="network", init=False)

    @property
    def scale(self) -> int:
        """How many times larger the network itself makes a picture."""
        return int(self.network.scale)

    def to_device(self, device: "Device") -> Self:
        """The network, which was read for such a device, on it."""
        return replace(self, device=device, loading=placing.move([self.network], device))

    def begin(self, *, scale: float | None, denoise_strength: float | None, tile: int | None) -> "Enlarger":
        """What one job enlarges with; `scale` is the network's own when not given, `tile` a side in pixels.

        Raises:
            InvalidInput: the model has no such setting as `denoise_strength`.
        """
        self._denoise(denoise_strength)
        return Enlarger(Tiles(self.network, self.device, self.dtype, side=tile), scale or self.scale)

    def _denoise(self, strength: float | None) -> None:
        """Set how much noise is taken away, 0 to 1; None for what the weights do by themselves, which is 1."""
        if not self.weak:
            if strength is not None:
                raise InvalidInput(
                    f"model '{self.source.model_id}' has no denoise_strength; realesr-general-x4v3 has, beside its "
                    "wdn weights"
                )
            return
        self.network.load_state_dict(blend(self.strong, self.weak, 1.0 if strength is None else strength))


def load(source: ModelSource, device: "Device") -> Upscaler:
    """Read a checkpoint: a .safetensors or .pth file, or the folder that has one. Half precision on CUDA.

    Raises:
        ModelUnavailable: there is not one checkpoint, it is damaged, of an unknown architecture, or a pickle of the
            hub that models.json does not allow.
    """
    stages = Stages()
    file = weights_file(source.path)
    with stages.measure("files"):
        pickles.check_of_the_hub(source, file)
        state = esrgan_weights.read(file)
        network = _network(file.name, state)
        twin = _weak_twin(source, file)
        weak = esrgan_weights.modern(esrgan_weights.read(twin)) if twin else {}
    dtype = torch.float32 if isinstance(network, SpandrelNetwork) and not network.takes_half else device.dtype
    with stages.measure("to_device"):
        network.to(device=device.kind, dtype=dtype, memory_format=torch.channels_last)
        if device.bound_for:
            placing.keep([network])
    # copies, since the network took the tensors themselves, and blends are written into it
    strong = {name: weight.clone() for name, weight in esrgan_weights.modern(state).items()} if weak else {}
    if device.bound_for:
        weak = {name: weight.clone() for name, weight in weak.items()}
    return Upscaler(source, network, device, dtype, strong, weak, stages.seconds)


def _network(name: str, state: State) -> Any:
    try:
        return esrgan_weights.network_of(state)
    except esrgan_weights.Unknown:
        return spandrel_network.load(name, state)


def weights_file(path: Path) -> Path:
    """The checkpoint that a path is or has; safetensors rather than the same in .pth.

    Raises:
        ModelUnavailable: a folder has none, or several.
    """
    if not path.is_dir():
        return path
    found = {file.stem: file for suffix in reversed(SUFFIXES) for file in sorted(path.glob(f"*{suffix}"))}
    files = [file for file in found.values() if WEAK[1] not in file.stem]
    if len(files) != 1:
        has = ", ".join(file.name for file in files[:8]) or f"no {' or '.join(SUFFIXES)} file"
        raise ModelUnavailable(f"'{path.name}' has {has}; name one checkpoint under `files` in models.json")
    return files[0]


def _weak_twin(source: ModelSource, file: Path) -> Path | None:
    """The weights of the network that denoises weakly, beside those of the one that denoises, where they may be read.

    Raises:
        ModelUnavailable: they are a pickle that is another than the allowed one.
    """
    if WEAK[0] not in file.name or WEAK[1] in file.name:
        return None
    twin = file.with_name(file.name.replace(*WEAK))
    if not twin.is_file() or not pickles.may_be_read(source, twin):
        return None
    pickles.check_of_the_hub(source, twin)
    return twin


class Enlarger:
    """Makes pictures `scale` times as large: by the network, then by Lanczos where that has another factor."""

    def __init__(self, tiles: Tiles, scale: float) -> None:
        self.scale = scale
        self._tiles = tiles

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a picture of a size will have."""
        return round(width * self.scale), round(height * self.scale)

    def most_pixels(self, width: int, height: int) -> int:
        """How many pixels a picture of a size has at its largest, here or as the network makes it."""
        return round(width * height * max(self.scale, self._tiles.scale) ** 2)

    def frames_at_once(self, width: int, height: int) -> int:
        """How many frames of a size to give to `frames` together."""
        return self._tiles.frames_at_once(height, width)

    def frames(self, frames: Sequence[Pixels], on_tile: OnTile) -> Iterator[Pixels]:
        """Enlarge frames of one size, RGB (h, w, 3), together.

        Raises:
            OutOfMemory: not even the smallest tile fits.
        """
        height, width = frames[0].shape[:2]
        for enlarged in self._tiles(np.stack(frames), on_tile):
            yield np.asarray(self._resized(Image.fromarray(enlarged), width, height))

    def picture(self, image: Image.Image, on_tile: OnTile) -> Image.Image:
        """Enlarge a picture: RGBA stays so, anything else becomes RGB.

        The network enlarges the transparency too, as a grey picture: bicubic would blur an edge that the network
        draws sharp in colour, which shows as a rim.

        Raises:
            OutOfMemory: not even the smallest tile fits.
        """
        if image.mode != "RGBA":
            (made,) = self._tiles(np.asarray(image.convert("RGB"))[None], on_tile)
            return self._resized(Image.fromarray(made), *image.size)
        alpha = image.getchannel("A")
        parts = np.stack([np.asarray(part) for part in (_opaque(image), alpha.convert("RGB"))])
        colours, edges = (Image.fromarray(made) for made in self._tiles(parts, on_tile))
        colours.putalpha(_within(alpha, edges.getchannel("G")))
        return self._resized(colours, *image.size)

    def _resized(self, enlarged: Image.Image, width: int, height: int) -> Image.Image:
        size = self.size(width, height)
        return enlarged if enlarged.size == size else enlarged.resize(size, Image.Resampling.LANCZOS)


def _opaque(image: Image.Image) -> Image.Image:
    """The colours alone; where nothing is visible, those of visible pixels beside, for edges to get no dark rim."""
    spread = image.convert("RGBa").filter(ImageFilter.BoxBlur(EDGE)).convert("RGBA")
    is_visible = image.getchannel("A").point(lambda alpha: 255 if alpha else 0)
    return Image.composite(image, spread, is_visible).convert("RGB")


def _within(alpha: Image.Image, enlarged: Image.Image) -> Image.Image:
    """The enlarged transparency, nowhere beyond that of the pixels around: what is opaque or empty stays so."""
    least, most = (
        alpha.filter(kind(3)).resize(enlarged.size, Image.Resampling.NEAREST)
        for kind in (ImageFilter.MinFilter, ImageFilter.MaxFilter)
    )
    return ImageChops.darker(ImageChops.lighter(enlarged, least), most)
