"""The models on disk: demo models, folders and the Hugging Face cache, offline first."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import ModelUnavailable
from shared.models.catalog import COMMIT, Entry
from shared.schemas import ModelSource

DEMO_MODELS = Path(__file__).parents[2] / "templates" / "demo_models"
RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")  # also where RunPod puts its cached models, lower-cased
CONTAINER_CACHE = Path("/models")
TEXTS = (".json", ".txt", ".model", ".jinja")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
GGUF_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
HASHED_WHOLE = 2**30  # bytes; a larger file is sampled, since a cold start must not read it twice
SAMPLES = 64
SAMPLE = 2**20


class Store:
    """Finds a model in its roots, read in order, and downloads it into the first that can be written."""

    def __init__(
        self,
        model_dir: Path | None = None,
        *,
        token: str | None = None,
        volumes: Sequence[Path] = (RUNPOD_CACHE, CONTAINER_CACHE),
        hub_url: str | None = None,
    ) -> None:
        """Args: `volumes` are read after `model_dir`; `hub_url` is where to download, by default HF_ENDPOINT."""
        self._token = token
        self._given = [model_dir] if model_dir else []
        self._volumes = list(volumes)
        self._hub_url = hub_url

    def roots(self) -> list[Path]:
        """The folders that may hold a Hugging Face cache, in the order in which they are read."""
        from huggingface_hub.constants import HF_HUB_CACHE

        return [*self._given, *self._volumes, Path(HF_HUB_CACHE)]

    def find(self, entry: Entry) -> ModelSource | None:
        """The model, if it is here and whole; asks nobody."""
        if entry.model_id.startswith("demo/"):
            return _folder(entry, DEMO_MODELS / entry.model_id.removeprefix("demo/"))
        if entry.model_id.startswith(("/", "./", "../")):
            return _folder(entry, Path(entry.model_id))
        for root in self.roots():
            if snapshot := _snapshot(root, entry):
                return _source(entry, snapshot.name, snapshot)
        return None

    def ensure(self, entry: Entry, *, on_download: Callable[[], None] = lambda: None) -> ModelSource:
        """The model, downloaded first if it has to be; `on_download` is called before that.

        Raises:
            ModelUnavailable: it is not here, and cannot be fetched.
        """
        if found := self.find(entry):
            return found
        _must_be_of_the_hub(entry)
        on_download()
        return self._download(entry)

    def check(self, entry: Entry) -> None:
        """Whether the model is here, or the hub says that it has it; downloads nothing.

        Raises:
            ModelUnavailable: neither.
        """
        if not self.find(entry):
            _must_be_of_the_hub(entry)
            self._files(entry)

    def write_root(self) -> Path:
        """The first root that can be written; a volume that is not mounted is passed over, not made up.

        Raises:
            ModelUnavailable: there is none.
        """
        for root in self.roots():
            if root in self._volumes and not Path(*root.parts[:2]).is_dir():
                continue
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(root, os.W_OK):
                return root
        raise ModelUnavailable("no folder for models can be written; set MODEL_DIR")

    def _download(self, entry: Entry) -> ModelSource:
        from huggingface_hub import snapshot_download

        commit, files = self._files(entry)
        root = self.write_root()
        unfinished = _unfinished(root / _folder_name(entry.model_id), commit)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()  # stays behind when this process is killed
        path = _from_hub(
            entry,
            lambda: snapshot_download(
                entry.model_id,
                revision=commit,
                allow_patterns=files,
                cache_dir=root,
                token=self._token,
                endpoint=self._hub_url,
            ),
        )
        unfinished.unlink(missing_ok=True)
        if not _is_whole(Path(path), entry.files):
            raise ModelUnavailable(f"'{entry.model_id}' is neither a diffusers checkpoint in safetensors nor a GGUF")
        return _source(entry, commit, Path(path))

    def _files(self, entry: Entry) -> tuple[str, list[str]]:
        from huggingface_hub import HfApi

        api = HfApi(self._hub_url, token=self._token)
        info = _from_hub(entry, lambda: api.model_info(entry.model_id, revision=entry.revision))
        names = [s.rfilename for s in info.siblings or []]
        return str(info.sha), gguf_files(entry, names) or wanted_files(names)


def gguf_files(entry: Entry, names: list[str]) -> list[str]:
    """The files to download of a repository that holds models in one file each: the one named, in all its parts.

    Raises:
        ModelUnavailable: the one named is not there, or none is named and there are several.
    """
    offered = [n for n in names if n.endswith(".gguf")]
    if not entry.files and ("model_index.json" in names or not offered):
        return []
    first = [n for n in offered if not (part := GGUF_PART.search(n)) or int(part[1]) == 1]
    wanted = list(entry.files) or first
    if len(wanted) > 1 or not set(wanted) <= set(names):
        asked = f"has no {', '.join(entry.files)}" if entry.files else "has several models; name one in GGML_FILE"
        raise ModelUnavailable(f"'{entry.model_id}' {asked}; it has: {', '.join(first[:20]) or 'no GGUF file'}")
    return [n for n in names if n in parts_of(wanted[0])]


def parts_of(file: str) -> list[str]:
    """The names of all parts of a GGUF file, from that of its first; the file alone where it is in one."""
    part = GGUF_PART.search(file)
    if part is None:
        return [file]
    return [f"{file[: part.start()]}-{n:05d}-of-{part[2]}.gguf" for n in range(1, int(part[2]) + 1)]


def _source(entry: Entry, revision: str, folder: Path) -> ModelSource:
    path = folder / entry.files[0] if entry.files else folder
    return ModelSource(entry.model_id, revision, path, entry.options)


def _must_be_of_the_hub(entry: Entry) -> None:
    if entry.model_id.startswith(("demo/", "/", "./", "../")):
        raise ModelUnavailable(f"model '{entry.model_id}' is not here, or is not whole")


def wanted_files(names: list[str]) -> list[str]:
    """The files of a diffusers repository that are worth downloading.

    Texts and, folder by folder, one copy of the weights: half-precision safetensors where there are any, else full
    precision. Never pickles, ONNX, or the single-file checkpoints beside the folders.
    """
    kept = [n for n in names if n.endswith(TEXTS)]
    folders = {n.rpartition("/")[0] for n in names if n.endswith(".safetensors")} - {""}
    for folder in sorted(folders):
        here = [n for n in names if n.rpartition("/")[0] == folder and n.endswith(".safetensors")]
        weights = [n for n in here if "non_ema" not in n]
        kept += [n for n in weights if ".fp16" in n] or weights
    return kept


def _from_hub(entry: Entry, call: Callable[[], Any]) -> Any:
    """Run a call of huggingface_hub; this is the edge at which its errors become ours."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return call()
    except GatedRepoError as exc:
        raise ModelUnavailable(f"'{entry.model_id}' is gated; accept its terms and set HF_TOKEN") from exc
    except HfHubHTTPError as exc:
        if isinstance(exc, RepositoryNotFoundError) or exc.response.status_code == 401:
            raise ModelUnavailable(f"the hub has no '{entry.model_id}', or HF_TOKEN may not see it") from exc
        raise ModelUnavailable(f"'{entry.model_id}' cannot be fetched: {type(exc).__name__}") from exc
    except OfflineModeIsEnabled as exc:
        raise ModelUnavailable(f"'{entry.model_id}' is not on the volume, and HF_HUB_OFFLINE is set") from exc
    except Exception as exc:
        raise ModelUnavailable(f"'{entry.model_id}' cannot be fetched: {type(exc).__name__}") from exc


def _snapshot(root: Path, entry: Entry) -> Path | None:
    repo = _repo_folder(root, entry.model_id)
    if repo is None:
        return None
    found = (repo / "snapshots" / commit for commit in _commits(repo, entry.revision))
    return next((f for f in found if _is_whole(f, entry.files) and not _unfinished(repo, f.name).exists()), None)


def _repo_folder(root: Path, model_id: str) -> Path | None:
    name = _folder_name(model_id)
    if not root.is_dir():
        return None
    if (root / name).is_dir():
        return root / name
    return next((f for f in root.iterdir() if f.name.lower() == name.lower()), None)  # RunPod's are lower-cased


def _folder_name(model_id: str) -> str:
    return "models--" + model_id.replace("/", "--")


def _unfinished(repo: Path, commit: str) -> Path:
    """There while a download of ours goes on, or after it was broken off."""
    return repo / f".unfinished-{commit}"


def _commits(repo: Path, revision: str) -> list[str]:
    """The snapshots that may stand for a revision, the likeliest first."""
    if COMMIT.fullmatch(revision):
        return [revision]
    ref = repo / "refs" / revision
    named = [ref.read_text().strip()] if ref.is_file() else []
    if revision != "main":
        return named
    newest_first = sorted((repo / "snapshots").glob("*"), key=lambda f: f.stat().st_mtime, reverse=True)
    return named + [f.name for f in newest_first if f.name not in named]


def _is_whole(folder: Path, files: Sequence[str] = ()) -> bool:
    """Whether no file that the model needs is missing."""
    if files:
        return all((folder / part).is_file() for part in parts_of(files[0]))
    if not (folder / "model_index.json").exists():
        found = list(folder.glob("*.gguf"))
        return bool(found) and all((folder / part).is_file() for f in found for part in parts_of(f.name))
    return _is_whole_checkpoint(folder)


def _is_whole_checkpoint(folder: Path) -> bool:
    """Whether every component that a diffusers folder names can be loaded: no part, weight or shard is missing."""
    try:
        index = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError):
        return False
    parts = [folder / k for k, v in index.items() if isinstance(v, list) and v[0]]
    return all(_part_is_whole(part) for part in parts) and all(f.exists() for f in folder.rglob("*"))


def _part_is_whole(part: Path) -> bool:
    names = {f.name for f in part.glob("*")}
    if "config.json" not in names:  # a scheduler, tokenizer or image processor
        return any(n.endswith(".json") for n in names)
    if any(n.endswith(".safetensors") and not SHARD.search(n) for n in names):
        return True
    return any(_shards(index) <= names for index in part.glob("*.safetensors.index*.json"))


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError):
        return {"a list that can be read"}


def _folder(entry: Entry, path: Path) -> ModelSource | None:
    """A model in a folder, or in a file, that is no cache; its revision is a hash of what it is."""
    if path.is_file():
        parts = [path.with_name(part) for part in parts_of(path.name)]
        if not all(part.is_file() for part in parts):
            return None
        return ModelSource(entry.model_id, _revision(path.parent, parts), path, entry.options)
    if not _is_whole(path, entry.files):
        return None
    if entry.files:
        return _source(entry, _revision(path, [path / part for part in parts_of(entry.files[0])]), path)
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in (*TEXTS, ".safetensors", ".gguf"))
    return _source(entry, _revision(path, files), path)


def _revision(folder: Path, files: Sequence[Path]) -> str:
    """`sha256-...` of the files; `sampled-...` where one is too large to be read for that."""
    state = tuple((f.relative_to(folder).as_posix(), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    kind = "sampled" if any(size > HASHED_WHOLE for _, size, _ in state) else "sha256"
    return f"{kind}-{_digest(folder, state)[:16]}"


@lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    """The hash of a folder's files; read again only when `state` (names, sizes, times) is another."""
    digest = hashlib.sha256()
    for name, size, _ in state:
        with (path / name).open("rb") as file:
            content = _sampled(file, size) if size > HASHED_WHOLE else hashlib.file_digest(file, "sha256").digest()
            digest.update(name.encode() + content)
    return digest.hexdigest()


def _sampled(file: BinaryIO, size: int) -> bytes:
    """The hash of a file's length and of pieces of it, from its first to its last."""
    digest = hashlib.sha256(str(size).encode())
    for n in range(SAMPLES):
        file.seek((size - SAMPLE) * n // (SAMPLES - 1))
        digest.update(file.read(SAMPLE))
    return digest.digest()
