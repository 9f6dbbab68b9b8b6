"""Compares bearer tokens in constant time."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request

from shared.errors import Unauthorized


def requires(token: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets a request pass with `Authorization: Bearer TOKEN` or the raw token, as RunPod does."""
    expected = token.encode()

    async def check(request: Request) -> None:  # FastAPI would call any other in a thread
        given = request.headers.get("Authorization", "")
        scheme, _, rest = given.partition(" ")
        if scheme.lower() == "bearer":
            given = rest.strip()
        if not hmac.compare_digest(given.encode(), expected):
            raise Unauthorized("send `Authorization: Bearer <key>` with this endpoint's key")

    return check
