"""A Hugging Face hub on loopback with one repository: what huggingface_hub 2.4 asks for a download, and no more."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.shared.media.loopback import Loopback, Route, loopback, reply

CLOSE = {"Connection": "close"}  # as the server does after each answer


def refusal(status: int, code: str) -> Route:
    """An answer as the hub refuses with it."""
    return reply(status, b"{}", {**CLOSE, "X-Error-Code": code, "X-Error-Message": code})


@contextmanager
def hub(model_id: str, commit: str, files: dict[str, bytes]) -> Iterator[Loopback]:
    """Serves the files as branch `main` and as the commit."""
    routes: dict[str, Route] = {}
    for revision in ("main", commit):
        routes[f"/api/models/{model_id}/revision/{revision}"] = _json(_info(model_id, commit, files))
        routes[f"/api/models/{model_id}/tree/{revision}"] = _json(_tree(files))
        routes |= {f"/{model_id}/resolve/{revision}/{name}": _file(data, commit) for name, data in files.items()}
    with loopback(routes) as server:
        yield server


def _info(model_id: str, commit: str, files: dict[str, bytes]) -> object:
    return {"id": model_id, "sha": commit, "siblings": [{"rfilename": name} for name in files]}


def _tree(files: dict[str, bytes]) -> object:
    return [
        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}  # noqa: S324
        for name, data in files.items()
    ]


def _json(value: object) -> Route:
    return reply(200, json.dumps(value).encode(), {**CLOSE, "Content-Type": "application/json"})


def _file(data: bytes, commit: str) -> Route:
    headers = {**CLOSE, "ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}

    def route(request: BaseHTTPRequestHandler) -> None:
        reply(200, b"" if request.command == "HEAD" else data, {**headers, "Content-Length": str(len(data))})(request)

    return route
