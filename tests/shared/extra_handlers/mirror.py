"""A picture the other way round, without a model; a pipeline for tests."""

from PIL import ImageOps
from pydantic import Field

from shared.media.image import ImageInput, read_image
from shared.schemas import Context, Handler, Params


class MirrorParams(Params):
    """What to turn."""

    image: ImageInput = Field(description="The picture.")


def run(model: None, params: MirrorParams, ctx: Context) -> None:
    """Left is right."""
    ctx.image(ImageOps.mirror(read_image(params.image)))


handler = Handler(params=MirrorParams, run=run)
