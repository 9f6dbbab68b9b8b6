"""A Hugging Face hub on loopback, as huggingface_hub 2.4 uses one: listings, metadata, redirects to a store of large
files, ranges, gates and tokens. It breaks on demand, and counts what it sent."""

import contextlib
import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from tests.shared.media.loopback import Loopback, Route, Seen, loopback, reply

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

LARGE = (".safetensors", ".gguf", ".bin", ".pth", ".ckpt")  # what the server keeps as LFS files
CHUNK = 2**14
CLOSE = {"Connection": "close"}  # as the server does after each answer
Send = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass
class Repo:
    """One model on the hub."""

    files: dict[str, bytes]
    commit: str
    gated_for: frozenset[str] | None = None  # tokens that may read it; None: everybody
    private: bool = False
    branches: tuple[str, ...] = ("main",)


@dataclass(frozen=True)
class Sent:
    """One answer with a file's whole content: its place in the order of all starts and ends."""

    name: str
    begun: int
    ended: int


@dataclass
class HubServer:
    """What the server has, what it was told to do wrong, and what it did."""

    repos: dict[str, Repo] = field(default_factory=dict)
    tokens: frozenset[str] = frozenset({"hf_good"})
    faults: dict[str, list[Send]] = field(default_factory=lambda: defaultdict(list))  # by file, one for each answer
    always: Send | None = None  # how every file is sent that has no fault
    gets: "Counter[str]" = field(default_factory=Counter)
    sent: list[Sent] = field(default_factory=list)
    bytes_sent: "Counter[str]" = field(default_factory=Counter)
    tokens_seen: set[str | None] = field(default_factory=set)
    tokens_at_the_store: set[str | None] = field(default_factory=set)
    instead: dict[str, Route] = field(default_factory=dict)  # answers to paths, in place of the true ones
    server: Loopback | None = None
    _moment: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url("")

    @property
    def seen(self) -> list[Seen]:
        """All requests, as they came."""
        assert self.server is not None
        return self.server.seen

    def add(self, model_id: str, files: Mapping[str, bytes], commit: str = "c" * 40) -> Repo:
        """Put a model there."""
        self.repos[model_id] = Repo(dict(files), commit)
        return self.repos[model_id]

    def tick(self) -> int:
        """The next place in the order of all that happens."""
        with self._lock:
            self._moment += 1
            return self._moment

    def overlaps(self) -> list[tuple[Sent, Sent]]:
        """Pairs of whole downloads of one file that went on at the same time."""
        return [
            (a, b)
            for n, a in enumerate(self.sent)
            for b in self.sent[n + 1 :]
            if a.name == b.name and a.begun < b.ended and b.begun < a.ended
        ]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Every request comes here."""
        path, _, query = request.path.partition("?")
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        if path.startswith("/lfs/"):
            self.tokens_at_the_store.add(token)
            return self._large(request, path.removeprefix("/lfs/"))
        self.tokens_seen.add(token)
        if path in self.instead:
            return self.instead[path](request)
        if token and token not in self.tokens:
            words = "Invalid credentials in Authorization header"
            return reply(401, b"{}", {**CLOSE, "X-Error-Message": words})(request)
        if path == "/api/models":
            return self._search(request, query)
        return self._of_repo(request, path, token)

    def _search(self, request: BaseHTTPRequestHandler, query: str) -> None:
        wanted = parse_qs(query).get("search", [""])[0].lower()
        author = parse_qs(query).get("author", [""])[0].lower()
        named = [n for n, repo in self.repos.items() if wanted in n.lower() and not repo.private]
        found = [{"id": name} for name in named if name.lower().startswith(author)]
        _json(found)(request)

    def _of_repo(self, request: BaseHTTPRequestHandler, path: str, token: str | None) -> None:
        parts = [unquote(part) for part in path.removeprefix("/api/models").strip("/").split("/")]
        name, what = "/".join(parts[:2]), parts[2:]
        repo = self.repos.get(name)
        if repo is None or (repo.private and token is None):
            return refusal(401 if token is None else 404, "RepoNotFound")(request)
        if what[:1] == ["refs"]:
            refs = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": repo.commit} for b in repo.branches]
            return _json({"branches": refs, "tags": [], "converts": []})(request)
        revision = what[1] if len(what) > 1 else "main"
        if revision not in (*repo.branches, repo.commit):
            return refusal(404, "RevisionNotFound")(request)
        if what[:1] == ["resolve"]:
            if repo.gated_for is not None and token not in repo.gated_for:
                return refusal(403 if token else 401, "GatedRepo")(request)
            return self._resolve(request, repo, "/".join(what[2:]))
        return _json(_info(name, repo))(request)

    def _resolve(self, request: BaseHTTPRequestHandler, repo: Repo, name: str) -> None:
        data = repo.files.get(name)
        if data is None:
            return refusal(404, "EntryNotFound")(request)
        headers = {**CLOSE, "X-Repo-Commit": repo.commit}
        if not name.endswith(LARGE):
            headers["ETag"] = f'"{git_sha1(data)}"'
            return self._send(request, name, data, headers)
        sha256 = hashlib.sha256(data).hexdigest()
        assert self.server is not None
        headers |= {
            "X-Linked-ETag": f'"{sha256}"',
            "X-Linked-Size": str(len(data)),
            "Location": f"http://localhost:{self.server.port}/lfs/{sha256}",  # another host, as the hub's is
        }
        return reply(302, b"", headers)(request)

    def _large(self, request: BaseHTTPRequestHandler, sha256: str) -> None:
        for repo in self.repos.values():
            for name, data in repo.files.items():
                if hashlib.sha256(data).hexdigest() == sha256 and name.endswith(LARGE):
                    return self._send(request, name, data, {**CLOSE, "ETag": f'"{sha256}"'})
        return reply(404, b"", CLOSE)(request)

    def _send(self, request: BaseHTTPRequestHandler, name: str, data: bytes, headers: dict[str, str]) -> None:
        if request.command == "HEAD":
            return reply(200, b"", headers | {"Content-Length": str(len(data))})(request)
        start = _range(request)
        with self._lock:
            self.gets[name] += 1
            send = self.faults[name].pop(0) if self.faults[name] else self.always or whole
        begun = self.tick()
        request.send_response(206 if start else 200)
        if start:
            headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        for header, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            request.send_header(header, value)
        request.end_headers()
        counted = _Counted(self, name)
        with contextlib.suppress(ConnectionError):
            send(_through(request, counted), data[start:])
            if counted.bytes == len(data):
                self.sent.append(Sent(name, begun, self.tick()))
        return None


@dataclass
class _Counted:
    server: HubServer
    name: str
    bytes: int = 0

    def add(self, number: int) -> None:
        self.bytes += number
        self.server.bytes_sent[self.name] += number


def _through(request: BaseHTTPRequestHandler, counted: _Counted) -> BaseHTTPRequestHandler:
    """The request, with what is written to it counted."""
    write = request.wfile.write

    def counting(data: "Buffer") -> int:
        written = write(data)
        counted.add(len(memoryview(data)))
        return written

    request.wfile.write = counting  # type: ignore[method-assign]
    return request


def _range(request: BaseHTTPRequestHandler) -> int:
    asked = request.headers.get("Range", "")
    return int(asked.removeprefix("bytes=").partition("-")[0] or 0) if asked else 0


def whole(request: BaseHTTPRequestHandler, data: bytes) -> None:
    """All of it, as it is."""
    request.wfile.write(data)


def dropped(request: BaseHTTPRequestHandler, data: bytes) -> None:
    """The connection ends in the middle."""
    request.wfile.write(data[: len(data) // 2])


def corrupt(request: BaseHTTPRequestHandler, data: bytes) -> None:
    """One bit differs, in the middle."""
    middle = len(data) // 2
    request.wfile.write(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def held(gate: threading.Event, arrived: threading.Event | None = None) -> Send:
    """Half of it; the rest when the gate opens."""

    def send(request: BaseHTTPRequestHandler, data: bytes) -> None:
        request.wfile.write(data[: len(data) // 2])
        request.wfile.flush()
        if arrived:
            arrived.set()
        gate.wait(60)
        request.wfile.write(data[len(data) // 2 :])

    return send


def slow(seconds: float) -> Send:
    """In small pieces, over so many seconds."""

    def send(request: BaseHTTPRequestHandler, data: bytes) -> None:
        pieces = [data[n : n + CHUNK] for n in range(0, len(data), CHUNK)]
        never = threading.Event()
        for piece in pieces:
            never.wait(seconds / len(pieces))
            request.wfile.write(piece)
            request.wfile.flush()

    return send


def refusal(status: int, code: str) -> Route:
    """An answer as the hub refuses with it."""
    return reply(status, b"{}", {**CLOSE, "X-Error-Code": code, "X-Error-Message": code})


def git_sha1(data: bytes) -> str:
    """The name of a file's content in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 git's own hash


def _info(name: str, repo: Repo) -> object:
    gated = "manual" if repo.gated_for is not None else False
    siblings = [_sibling(file, data) for file, data in repo.files.items()]
    return {"id": name, "sha": repo.commit, "gated": gated, "private": repo.private, "siblings": siblings}


def _sibling(name: str, data: bytes) -> dict[str, object]:
    about: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
    if name.endswith(LARGE):
        about["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return about


def _json(value: object) -> Route:
    return reply(200, json.dumps(value).encode(), {**CLOSE, "Content-Type": "application/json"})


class _Routes(dict[str, Route]):
    """Every path leads to one place."""

    def __init__(self, answer: Route) -> None:
        super().__init__()
        self._answer = answer

    def get(self, key: str, default: object = None) -> Route:
        return self._answer


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """An empty hub for the length of a `with`."""
    hub = HubServer()
    with loopback({}) as server:
        server.routes = _Routes(hub.answer)
        hub.server = server
        yield hub
