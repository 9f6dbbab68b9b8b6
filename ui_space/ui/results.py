"""What a job made: files to look at, and what there is to say about them."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ui import receipts, status, within
from ui.endpoint import Endpoint
from ui.shelf import Shelf

MARKS = {True: "✓", False: "✗", None: "·"}
SHOWN = ("text", "metrics", "receipt", "usage", "finish_reason", "steps")  # otherwise, or not at all
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "video/mp4": "mp4", "video/webm": "webm"}


@dataclass(frozen=True)
class Made:
    """One file: an `image`, a `video` or a `file`; `caption` stands below it and is its alternative text."""

    path: str
    kind: str
    caption: str
    seed: int | None = None


@dataclass(frozen=True)
class Result:
    """The result of one job; `rest` is what the page knows no better way to show than as JSON.

    `facts` are pairs of what and how much.
    """

    job_id: str
    files: tuple[Made, ...] = ()
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    receipt: dict[str, Any] | None = None
    rest: Any = None

    def of(self, kind: str) -> list[Made]:
        """The files of one kind."""
        return [made for made in self.files if made.kind == kind]

    @property
    def seed(self) -> int | None:
        """What the first file was drawn from."""
        return next((made.seed for made in self.files if made.seed is not None), None)


def collect(endpoint: Endpoint, job: dict[str, Any], about: str, currency: str, shelf: Shelf) -> Result:
    """The result of a completed job, its files on the shelf; `about` describes them to those who cannot see them.

    Raises:
        Failure: a file could not be fetched.
    """
    output = whole(job.get("output"))
    fetched = [
        (kind, shown, endpoint.fetch(shown["url"])) for kind in ("image", "video") for shown in _listed(output, kind)
    ]
    rest, inside = within.apart(_unknown(output), endpoint.owns)
    files = (
        *(_made(kind, shown, data, about, shelf) for kind, shown, data in fetched),
        *(Made(str(shelf.put(endpoint.fetch(url), name)), within.kind(url), about[:120]) for name, url in inside),
    )
    text = output["text"] if isinstance(output.get("text"), str) else ""
    receipt = receipt_of(output)
    contents = [data for _, _, data in fetched] or ([text.encode()] if text else [])
    facts = [
        *[("size", described(made)) for made in files[:1]],
        *_times(job, _part(output, "metrics")),
        *_cost(job, endpoint.settings.price_per_s, currency),
        *_receipt(receipt, endpoint.settings.receipt_key, contents),
    ]
    return Result(str(job["id"]), files, text, tuple(facts), receipt, rest or None)


def _listed(output: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The pictures or videos, where they stand as our workers write them."""
    listed = output.get(f"{kind}s")
    entries = listed if isinstance(listed, list) else []
    return entries if all(isinstance(one, dict) and isinstance(one.get("url"), str) for one in entries) else []


def _unknown(output: dict[str, Any]) -> dict[str, Any]:
    """What no other part of the page shows."""
    known = {f"{kind}s" for kind in ("image", "video") if _listed(output, kind)} | {
        name for name in SHOWN if name != "text" or isinstance(output.get("text"), str)
    }
    return {name: value for name, value in output.items() if name not in known}


def receipt_of(output: Any) -> dict[str, Any] | None:
    """The receipt in a job's output, if there is one."""
    return _part(whole(output), "receipt") or None


def params_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a job was asked, by its receipt; empty where it has none."""
    return _part(receipt_of(job.get("output")) or {}, "params")


def _part(output: dict[str, Any], name: str) -> dict[str, Any]:
    part = output.get(name)
    return part if isinstance(part, dict) else {}


def whole(output: Any) -> dict[str, Any]:
    """A result as one object: pieces of text are joined, and the details that follow them stand beside it.

    What is neither an object nor text stands under `output`.
    """
    if isinstance(output, dict):
        return output
    pieces = output if isinstance(output, list) else [output]
    objects = [piece for piece in pieces if isinstance(piece, dict)]
    if output is not None and (
        not all(isinstance(piece, str | dict) for piece in pieces) or 1 < len(objects) == len(pieces)
    ):
        return {"output": output}
    details = {name: value for piece in pieces if isinstance(piece, dict) for name, value in piece.items()}
    return {"text": "".join(piece for piece in pieces if isinstance(piece, str)), **details}


def described(made: Made) -> str:
    """The measures of a file: pixels of a picture, and bytes."""
    size = status.size(Path(made.path).stat().st_size)
    if made.kind != "image":
        return size
    try:
        with Image.open(made.path) as image:
            return f"{image.width} x {image.height} pixels, {size}"
    except UnidentifiedImageError:  # a worker may call anything a picture
        return size


def details(result: Result) -> str:
    """The facts as a list."""
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in result.facts)
    return f'<dl class="job-facts">{rows}</dl>' if rows else ""


def receipt_text(result: Result) -> str:
    """The receipt as it can be kept and verified later."""
    return json.dumps(result.receipt, indent=1, ensure_ascii=False) if result.receipt else ""


def _made(kind: str, shown: dict[str, Any], data: bytes, about: str, shelf: Shelf) -> Made:
    path = shelf.put(data, f"{kind}.{_extension(shown['url'], kind)}")
    seed = shown.get("seed")
    frames = f", {shown['frames']} frames at {shown['fps']:g} a second" if shown.get("frames") else ""
    caption = f"{about[:120]}{'' if seed is None else f', seed {seed}'}{frames}"
    return Made(str(path), kind, caption.lstrip(", "), seed)


def _extension(url: str, kind: str) -> str:
    if url.startswith("data:"):
        return EXTENSIONS.get(url[5:].partition(";")[0], "gif" if kind == "video" else "png")
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    return ending if ending.isalnum() and len(ending) <= 4 else {"image": "png", "video": "mp4"}[kind]


def _times(job: dict[str, Any], metrics: dict[str, Any]) -> list[tuple[str, str]]:
    waited, ran = job.get("delayTime"), job.get("executionTime")
    told = [("waited", waited), ("ran", ran)]
    times = [(name, status.seconds(ms / 1000)) for name, ms in told if ms is not None]
    stages = [(name, metrics.get(f"{name}_s")) for name in ("load", "run", "encode")]
    parts = [f"{name} {status.seconds(took)}" for name, took in stages if isinstance(took, int | float) and took]
    return times + ([("of which", ", ".join(parts))] if parts else [])


def _cost(job: dict[str, Any], price_per_s: float | None, currency: str) -> list[tuple[str, str]]:
    """An estimate: the platform also bills the time in which a worker starts and idles."""
    if price_per_s is None or job.get("executionTime") is None:
        return []
    ran_s = job["executionTime"] / 1000
    return [("cost, about", f"{cost(ran_s, price_per_s)} {currency} ({ran_s:.1f} s at {price_per_s:g} {currency})")]


def cost(ran_s: float, price_per_s: float) -> str:
    """The price of a run with two digits that mean something."""
    price = ran_s * price_per_s
    return f"{price:.2f}" if price >= 1 else f"{price:.2g}"


def _receipt(receipt: dict[str, Any] | None, public_key: str | None, files: list[bytes]) -> list[tuple[str, str]]:
    if receipt is None:
        return []
    holds, why = receipts.check(receipt, public_key, files)
    return [("receipt", f"{MARKS[holds]} {why}")]
