"""A node's result, checked: files with their hashes, links that it gave, its receipt."""

import base64
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

from shared.errors import InvalidInput, MediaTooLarge
from shared.media.video_file import UNLIMITED, VideoFile
from shared.nodes.verdicts import nonsense
from shared.plan import Plan
from shared.schemas import Made, MadeVideo, Output, Params

Download = Callable[[str], bytes | None]
"""The file at a link, where only this worker can open it; None where anybody can."""

_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)?(;[^,]*)?")
_LONGEST_HEAD = 128
_EXTENSIONS = {"image/jpeg": "jpeg", "image/png": "png", "image/webp": "webp", "image/gif": "gif"}


@dataclass(frozen=True)
class Answer:
    """What a node made of a job.

    `outputs` are its files; `shown` are fields of the result that are passed on as they are: files that lie at links
    which anybody can open, and what a chain there kept of its steps.
    """

    node: str
    outputs: list[Output] = field(default_factory=list)
    shown: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    waited_s: float = 0.0  # until the node had a place

    @property
    def model(self) -> dict[str, str] | None:
        """The model that the node says it ran."""
        return _model_of(self.receipt)

    def as_record(self) -> dict[str, Any]:
        """What a receipt here holds of it: the node's receipt as it is, with its signature."""
        return {"name": self.node, "receipt": self.receipt}


def as_made(output: Output, params: Params) -> Made | MadeVideo:
    """An output as a step of a chain hands it on."""
    if output.is_video:
        return MadeVideo(VideoFile(output.data, UNLIMITED), output.seed, output.nsfw, params)
    image = Image.open(io.BytesIO(output.data))
    image.load()
    return Made(image, output.seed, output.nsfw, params)


def read(node: str, result: Any, plan: Plan, download: Download = lambda url: None) -> Answer:
    """The result that a node answered.

    Raises:
        Declined: it is not one of this job: no result at all, another model's, or files that its receipt denies.
    """
    if not isinstance(result, dict):
        raise nonsense("something that is no result")
    receipt = result.get("receipt") if isinstance(result.get("receipt"), dict) else None
    metrics = result["metrics"] if isinstance(result.get("metrics"), dict) else {}
    _check_model(receipt, plan)
    shown = {name: result[name] for name in ("images", "videos") if result.get(name)}
    if not shown and not plan.handler.stream and (receipt is None or receipt.get("outputs")):
        raise nonsense("a result without files")
    try:
        files = [(each, _file(each["url"], download)) for of_kind in shown.values() for each in of_kind]
    except (TypeError, KeyError, AttributeError, ValueError):
        raise nonsense("files that cannot be read") from None
    steps = {"steps": result["steps"]} if isinstance(result.get("steps"), list) else {}
    if any(file is None for _, file in files):
        return Answer(node, [], {**shown, **steps}, receipt, metrics)
    outputs = [_output(each, *file) for each, file in files if file]
    _check_hashes(outputs, receipt)
    return Answer(node, outputs, steps, receipt, metrics)


def _file(url: str, download: Download) -> tuple[bytes, str] | None:
    """A file and its media type; None for a link that is passed on."""
    if url.startswith(("https://", "http://")):
        found = download(url)
        return None if found is None else (found, "")
    if not (inline := _DATA_URL.fullmatch(url[:_LONGEST_HEAD].partition(",")[0])):
        raise ValueError("neither a link nor a file")
    return base64.b64decode(url.partition(",")[2], validate=True), inline[1] or ""


def _output(given: Mapping[str, Any], data: bytes, media_type: str) -> Output:
    """A file with what this worker can say of it itself; of its pixels only how many they are."""
    seed, frames, fps = given.get("seed"), given.get("frames"), given.get("fps")
    is_video = isinstance(frames, int)
    try:
        found = _video(data) if is_video else _image(data)
    except (InvalidInput, MediaTooLarge, UnidentifiedImageError, OSError):
        raise nonsense("a file that is no picture and no video") from None
    return Output(
        data=data,
        media_type=media_type or found[0],
        extension=_EXTENSIONS.get(media_type, media_type.rpartition("/")[2] or found[1]),
        sha256=hashlib.sha256(data).hexdigest(),
        pixels_sha256=None,
        pixels=found[2] * (frames if isinstance(frames, int) else 1),
        seed=seed if isinstance(seed, int) else None,
        nsfw=given.get("nsfw") is True,
        frames=frames if is_video else None,
        fps=fps if is_video and isinstance(fps, int | float) else None,
    )


def _image(data: bytes) -> tuple[str, str, int]:
    """Media type, extension and pixels, by its header."""
    with Image.open(io.BytesIO(data)) as image:
        kind = str(image.format).lower()
        return f"image/{kind}", kind, image.width * image.height


def _video(data: bytes) -> tuple[str, str, int]:
    """The same of a video; pixels of one frame."""
    info = VideoFile(data, UNLIMITED).info
    kind = "webm" if data.startswith(b"\x1aE\xdf\xa3") else "gif" if data.startswith(b"GIF8") else "mp4"
    return ("image/gif" if kind == "gif" else f"video/{kind}"), kind, info.width * info.height


def _check_model(receipt: Mapping[str, Any] | None, plan: Plan) -> None:
    ran, entry = _model_of(receipt), plan.entry
    if ran is None or entry is None:
        return
    if ran["id"] != entry.full_id:
        raise nonsense("with another model's result")
    if entry.pinned and ran["revision"] != entry.revision:
        raise nonsense("with a result of another revision of the model")


def _check_hashes(outputs: list[Output], receipt: Mapping[str, Any] | None) -> None:
    """A receipt lists what a chain kept of its steps before what it made in the end."""
    if receipt is None or not outputs:
        return
    listed = receipt.get("outputs")
    stated = [each.get("sha256") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if stated[-len(outputs) :] != [output.sha256 for output in outputs]:
        raise nonsense("files that are not those of its receipt")


def _model_of(receipt: Mapping[str, Any] | None) -> dict[str, str] | None:
    model = receipt.get("model") if receipt else None
    if not isinstance(model, dict) or not all(isinstance(model.get(k), str) for k in ("id", "revision")):
        return None
    return {"id": model["id"], "revision": model["revision"]}
