"""Draws the README's picture: what the demo model makes of a few prompts, with the prompts below.

python -m docs.picture
"""

import base64
import io
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import handlers
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings

PICTURE = Path(__file__).parent / "pictures" / "demo.png"
PROMPTS = (
    "a red circle on a blue background",
    "a small yellow triangle on a green background",
    "a large purple square on a white background",
    "an orange circle on a black background",
)
CHANGE = "a yellow square on a black background"
CELL, CAPTION, GAP = 192, 64, 12


def main() -> None:
    """Draw four pictures, change the last one, and paste them in a row."""
    runner = Runner(Settings.from_env({"MODEL_ID": "demo/text-to-image"}), handlers.Folders())
    drawn = [_run(runner, {"pipeline": "text-to-image", "prompt": prompt, "seed": 7}) for prompt in PROMPTS]
    changed = _run(
        runner,
        {"pipeline": "image-to-image", "prompt": CHANGE, "seed": 7, "image": _as_base64(drawn[-1]), "strength": 0.9},
    )
    captions = [*PROMPTS, f"image-to-image: the last one to {CHANGE}"]
    sheet = Image.new("RGB", (len(captions) * (CELL + GAP) - GAP, CELL + CAPTION), "white")
    for n, (picture, caption) in enumerate(zip([*drawn, changed], captions, strict=True)):
        _paste(sheet, picture, caption, n * (CELL + GAP))
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.save(PICTURE, optimize=True)


def _run(runner: Runner, given: dict[str, object]) -> Image.Image:
    url: str = runner.submit(Job("picture", given)).result()["images"][0]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def _as_base64(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _paste(sheet: Image.Image, picture: Image.Image, caption: str, left: int) -> None:
    sheet.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, 0))
    text = "\n".join(textwrap.wrap(caption, 26))
    ImageDraw.Draw(sheet).multiline_text((left + 2, CELL + 6), text, "black", ImageFont.load_default(14), spacing=3)


if __name__ == "__main__":
    main()
