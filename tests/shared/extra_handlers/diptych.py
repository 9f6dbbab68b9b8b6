"""A drawing beside its mirror image, both by other pipelines; a pipeline for tests."""

from PIL import Image
from pydantic import Field

from shared.media.image import encode_image
from shared.media.source import data_url
from shared.schemas import Context, Handler, Made, Params


class DiptychParams(Params):
    """What to draw."""

    prompt: str = Field(description="What to draw.")
    seed: int = Field(0, description="As text-to-image takes it.")
    model_id: str | None = Field(None, description="With which model.")
    pipeline_inside: str = Field("text-to-image", description="Who draws.")


def run(model: None, params: DiptychParams, ctx: Context) -> None:
    """Draw, send the file to the mirror, and paste both."""
    asked = {"prompt": params.prompt, "seed": params.seed, "model_id": params.model_id}
    (left,) = ctx.run(params.pipeline_inside, asked)
    assert isinstance(left, Made)
    url = data_url(encode_image(left.image, "png"), "image/png")
    (right,) = ctx.run("mirror", {"image": url})
    assert isinstance(right, Made)
    both = Image.new("RGB", (2 * left.image.width, left.image.height))
    both.paste(left.image, (0, 0))
    both.paste(right.image, (left.image.width, 0))
    ctx.image(both, seed=left.seed)


handler = Handler(params=DiptychParams, run=run)
