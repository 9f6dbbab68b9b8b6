"""The models on disk: demo models, folders and the Hugging Face cache, offline first."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from shared.schemas import ModelSource

DEMO_MODELS = Path(__file__).parents[2] / "templates" / "demo_models"
RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")  # also where RunPod puts its cached models, lower-cased
CONTAINER_CACHE = Path("/models")
COMMIT = re.compile(r"[0-9a-f]{40}")
TEXTS = (".json", ".txt", ".model", ".jinja")


class Store:
    """Finds a model in its roots, read in order, and downloads it into the first that can be written."""

    def __init__(self, model_dir: Path | None = None, *, token: str | None = None) -> None:
        self._token = token
        self._given = [model_dir] if model_dir else []

    def roots(self) -> list[Path]:
        """The folders that may hold a Hugging Face cache, in the order in which they are read."""
        from huggingface_hub.constants import HF_HUB_CACHE

        return [*self._given, RUNPOD_CACHE, CONTAINER_CACHE, Path(HF_HUB_CACHE)]

    def find(self, entry: Entry) -> ModelSource | None:
        """The model, if it is here and whole; asks nobody."""
        if entry.model_id.startswith("demo/"):
            return _folder(entry.model_id, DEMO_MODELS / entry.model_id.removeprefix("demo/"))
        if entry.model_id.startswith(("/", "./", "../")):
            return _folder(entry.model_id, Path(entry.model_id))
        for root in self.roots():
            if snapshot := _snapshot(root, entry):
                return ModelSource(entry.model_id, snapshot.name, snapshot)
        return None

    def ensure(self, entry: Entry, *, on_download: Callable[[], None] = lambda: None) -> ModelSource:
        """The model, downloaded first if it has to be; `on_download` is called before that.

        Raises:
            ModelUnavailable: it is not here, and cannot be fetched.
        """
        if found := self.find(entry):
            return found
        if entry.model_id.startswith(("demo/", "/", "./", "../")):
            raise ModelUnavailable(f"model '{entry.model_id}' is not here, or is not whole")
        on_download()
        return self._download(entry)

    def can_provide(self, entry: Entry) -> bool:
        """Whether the model is here, or the hub says that it has it."""
        if self.find(entry):
            return True
        try:
            self._files(entry)
        except ModelUnavailable:
            return False
        return True

    def write_root(self) -> Path:
        """The first root that can be written.

        Raises:
            ModelUnavailable: there is none.
        """
        for root in self.roots():
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
        path = _from_hub(
            entry,
            lambda: snapshot_download(
                entry.model_id,
                revision=commit,
                allow_patterns=files,
                cache_dir=self.write_root(),
                token=self._token,
            ),
        )
        return ModelSource(entry.model_id, commit, Path(path))

    def _files(self, entry: Entry) -> tuple[str, list[str]]:
        from huggingface_hub import HfApi

        info = _from_hub(entry, lambda: HfApi(token=self._token).model_info(entry.model_id, revision=entry.revision))
        return str(info.sha), wanted_files([s.rfilename for s in info.siblings or []])


def wanted_files(names: list[str]) -> list[str]:
    """The files of a diffusers repository that are worth downloading.

    Texts and, folder by folder, one copy of the weights: half-precision safetensors where there are any, else full
    precision. Never pickles, ONNX, or the single-file checkpoints beside the folders.
    """
    kept = [n for n in names if n.endswith(TEXTS)]
    folders = {n.rpartition("/")[0] for n in names if n.endswith(".safetensors")} - {""}
    for folder in sorted(folders):
        weights = [n for n in names if n.rpartition("/")[0] == folder and n.endswith(".safetensors")]
        half = [n for n in weights if ".fp16" in n]
        kept += half or [n for n in weights if ".fp16" not in n and "non_ema" not in n and "openvino" not in n]
    return kept


def _from_hub(entry: Entry, call: Callable[[], Any]) -> Any:
    """Run a call of huggingface_hub; this is the edge at which its errors become ours."""
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        return call()
    except GatedRepoError as exc:
        raise ModelUnavailable(f"'{entry.model_id}' is gated; accept its terms and set HF_TOKEN") from exc
    except RepositoryNotFoundError as exc:
        raise ModelUnavailable(f"the hub has no '{entry.model_id}', or HF_TOKEN may not see it") from exc
    except OfflineModeIsEnabled as exc:
        raise ModelUnavailable(f"'{entry.model_id}' is not on the volume, and HF_HUB_OFFLINE is set") from exc
    except Exception as exc:
        raise ModelUnavailable(f"'{entry.model_id}' cannot be fetched: {type(exc).__name__}") from exc


def _snapshot(root: Path, entry: Entry) -> Path | None:
    repo = _repo_folder(root, entry.model_id)
    if repo is None:
        return None
    found = repo / "snapshots" / _commit(repo, entry.revision)
    return found if _is_whole(found) else None


def _repo_folder(root: Path, model_id: str) -> Path | None:
    name = "models--" + model_id.replace("/", "--")
    if not root.is_dir():
        return None
    if (root / name).is_dir():
        return root / name
    return next((f for f in root.iterdir() if f.name.lower() == name.lower()), None)  # RunPod's are lower-cased


def _commit(repo: Path, revision: str) -> str:
    if COMMIT.fullmatch(revision):
        return revision
    ref = repo / "refs" / revision
    if ref.is_file():
        return ref.read_text().strip()
    snapshots = sorted((repo / "snapshots").glob("*"), key=lambda f: f.stat().st_mtime)
    return snapshots[-1].name if snapshots and revision == "main" else "none"


def _is_whole(folder: Path) -> bool:
    """Whether every component that a diffusers folder names is there, with no dangling link among its files."""
    index = folder / "model_index.json"
    if not index.is_file():
        return False
    parts = [k for k, v in json.loads(index.read_text()).items() if isinstance(v, list) and v[0]]
    return all(any((folder / part).glob("*")) for part in parts) and all(f.exists() for f in folder.rglob("*"))


def _folder(model_id: str, path: Path) -> ModelSource | None:
    if not _is_whole(path):
        return None
    digest = hashlib.sha256()
    for file in sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in (".json", ".safetensors")):
        digest.update(file.relative_to(path).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    return ModelSource(model_id, f"sha256-{digest.hexdigest()[:16]}", path)
