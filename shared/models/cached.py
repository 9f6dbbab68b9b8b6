"""Models in a Hugging Face cache: ours, those of other tools, and RunPod's; found without asking anybody."""

from collections.abc import Iterator
from pathlib import Path

from shared.models.catalog import COMMIT, Entry
from shared.models.published import Marker, read_marker, snapshot_path, wrong_sizes
from shared.models.whole import is_whole

EVICTING = ".evicting-{}.json"  # what the marker of a snapshot is called while that is deleted


def folder_name(model_id: str) -> str:
    """What the folder of a model is called in a cache."""
    return "models--" + model_id.replace("/", "--")


def model_id_of(repo: Path) -> str:
    """The model that a cache's folder is of."""
    return repo.name.removeprefix("models--").replace("--", "/", 1)


def repo_folder(root: Path, model_id: str) -> Path | None:
    """The folder of a model in a cache, if there is one."""
    name = folder_name(model_id)
    if not root.is_dir():
        return None
    if (root / name).is_dir():
        return root / name
    return next((f for f in root.iterdir() if f.name.lower() == name.lower()), None)  # RunPod's are lower-cased


def snapshot_of(root: Path, entry: Entry) -> Path | None:
    """The first snapshot that may stand for the entry's revision and is whole."""
    repo = repo_folder(root, entry.model_id)
    if repo is None:
        return None
    return next((snapshot_path(repo, c) for c in commits(repo, entry.revision) if is_usable(repo, c, entry)), None)


def is_usable(repo: Path, commit: str, entry: Entry) -> bool:
    """Whether a snapshot has all that the entry needs: by marker and sizes where it is ours, else by its names."""
    if (repo / EVICTING.format(commit)).exists():
        return False
    marker = read_marker(repo, commit)
    if marker and wrong_sizes(repo, marker):
        return False
    return is_whole(snapshot_path(repo, commit), entry.files, _allowed(marker, entry))


def why_not(root: Path, entry: Entry) -> str:
    """What is wrong with a snapshot of ours that cannot be used; empty where there is none."""
    repo = repo_folder(root, entry.model_id)
    for commit in commits(repo, entry.revision) if repo else ():
        marker = read_marker(repo, commit) if repo else None
        if repo and marker and (wrong := wrong_sizes(repo, marker)):
            return wrong[0]
    return ""


def _allowed(marker: Marker | None, entry: Entry) -> list[str]:
    """The pickles that the entry allows, where the file is the one whose hash it names."""
    files = marker.files if marker else {}
    return [name for name, sha in entry.pickles.items() if name in files and files[name].sha256 == sha.lower()]


def commits(repo: Path, revision: str) -> list[str]:
    """The snapshots that may stand for a revision, the likeliest first."""
    if COMMIT.fullmatch(revision):
        return [revision]
    ref = repo / "refs" / revision
    named = [ref.read_text().strip()] if ref.is_file() else []
    if revision != "main":
        return named
    # other tools, such as RunPod, write no ref, and a full disk kept us from it; what was asked for by its commit
    # is not what somebody means who names none
    unnamed = [f for f in (repo / "snapshots").glob("*") if _may_be_main(read_marker(repo, f.name))]
    newest_first = sorted(unnamed, key=lambda f: f.stat().st_mtime, reverse=True)
    return named + [f.name for f in newest_first if f.name not in named]


def _may_be_main(marker: Marker | None) -> bool:
    return marker is None or marker.branch == "main"


def snapshots(root: Path) -> Iterator[tuple[Path, str]]:
    """Every snapshot in a cache, as the folder of its model and its commit."""
    for repo in sorted(root.glob("models--*")):
        for snapshot in sorted((repo / "snapshots").glob("*")):
            if not (repo / EVICTING.format(snapshot.name)).exists():
                yield repo, snapshot.name
