"""Models in a Hugging Face cache: ours, those of other tools, and RunPod's; found without asking anybody."""

from collections.abc import Iterator
from pathlib import Path

from shared.models.catalog import COMMIT, Entry
from shared.models.published import Marker, read_marker, snapshot_path, wrong_sizes
from shared.models.single_file import SUFFIX, is_configuration_file
from shared.models.wanted import is_pickle, parts_of
from shared.models.whole import is_whole, needed_files

EVICTING = ".evicting-{}.json"  # what the marker of a snapshot is called while that is deleted


def folder_name(model_id: str) -> str:
    """What the folder of a model is called in a cache."""
    return "models--" + model_id.replace("/", "--")


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
    if marker and (wrong_sizes(repo, marker, _needed(repo, marker, entry)) or _unlisted(marker, entry)):
        return False
    allowed = _allowed(marker, entry)
    if any(is_pickle(name) and name not in allowed for name in entry.files):
        return False
    return is_whole(snapshot_path(repo, commit), entry.files, allowed)


def _unlisted(marker: Marker, entry: Entry) -> bool:
    """Whether the entry's file is in a snapshot of ours and yet not in its list: nobody has checked it."""
    return not marker.shared and any(part not in marker.files for name in entry.files for part in parts_of(name))


def _needed(repo: Path, marker: Marker, entry: Entry) -> list[str]:
    """The files of a snapshot that the entry reads; other entries may have brought more."""
    if entry.files:
        beside = [name for name in marker.files if is_configuration_file(name)]
        return [*parts_of(entry.files[0]), *(beside if entry.files[0].endswith(SUFFIX) else ())]
    return needed_files(snapshot_path(repo, marker.commit), marker.files)


def why_not(root: Path, entry: Entry) -> str:
    """What is wrong with a snapshot of ours that cannot be used; empty where there is none."""
    repo = repo_folder(root, entry.model_id)
    for commit in commits(repo, entry.revision) if repo else ():
        marker = read_marker(repo, commit) if repo else None
        if repo and marker and (wrong := wrong_sizes(repo, marker, _needed(repo, marker, entry))):
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
    if named and revision != "main":
        return named
    # other tools, such as RunPod, write no ref, and a full disk or another branch's kept us from it; what was asked
    # for by its commit is not what somebody means who names none
    unnamed = [f for f in (repo / "snapshots").glob("*") if _may_be(revision, read_marker(repo, f.name))]
    newest_first = sorted(unnamed, key=lambda f: f.stat().st_mtime, reverse=True)
    return named + [f.name for f in newest_first if f.name not in named]


def _may_be(branch: str, marker: Marker | None) -> bool:
    return branch == "main" if marker is None else marker.branch == branch


def snapshots(root: Path) -> Iterator[tuple[Path, str]]:
    """Every snapshot in a cache, as the folder of its model and its commit."""
    for repo in sorted(root.glob("models--*")):
        for snapshot in sorted((repo / "snapshots").glob("*")):
            if not (repo / EVICTING.format(snapshot.name)).exists():
                yield repo, snapshot.name
