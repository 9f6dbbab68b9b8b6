"""The baseline: FastAPI and uvicorn as they come, with endpoints that answer what they are given at the start.

python -m bench.bare_server PORT < answers.json     {"nothing": {...}, "picture": {...}}
"""

import base64
import gc
import hashlib
import io
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse
from PIL import Image
from pydantic import BaseModel

from shared.media.image import pixels_sha256

HOST = "127.0.0.1"
CHUNK = b'data: {"chunk":"token "}\n\n'


class Body(BaseModel):
    """What the bench sends."""

    prompt: str = ""
    pieces: int = 0


def application(answers: dict[str, dict[str, Any]]) -> FastAPI:
    """Each endpoint answers with what is in memory already."""
    app = FastAPI()
    file = base64.b64decode(answers["picture"]["images"][0]["url"].partition(",")[2])
    pixels = Image.open(io.BytesIO(file))
    pixels.load()

    @app.post("/nothing", response_model=None)
    async def nothing(body: Body) -> dict[str, Any]:
        return answers["nothing"]

    @app.post("/picture", response_model=None)
    async def picture(body: Body) -> dict[str, Any]:
        return answers["picture"]

    @app.post("/typed")
    async def typed(body: Body) -> dict[str, Any]:
        return answers["picture"]

    @app.post("/raw")
    async def raw(body: Body) -> Response:
        return Response(file, media_type="image/png")

    @app.post("/hashed")
    async def hashed(body: Body) -> Response:
        hashes = {"X-Sha256": hashlib.sha256(file).hexdigest(), "X-Pixels-Sha256": pixels_sha256(pixels)}
        return Response(file, media_type="image/png", headers=hashes)

    @app.post("/burst")
    async def burst(body: Body) -> StreamingResponse:
        return StreamingResponse(chunks(body.pieces), media_type="text/event-stream")

    return app


async def chunks(count: int) -> AsyncIterator[bytes]:
    """One write each."""
    for _ in range(count):
        yield CHUNK


if __name__ == "__main__":
    served = application(json.load(sys.stdin))
    gc.freeze()
    uvicorn.run(served, host=HOST, port=int(sys.argv[1]), log_level="warning", access_log=False)
