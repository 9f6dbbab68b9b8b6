"""The configuration of a checkpoint in one file that has none of its own: which it needs, and where that is."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from shared.errors import ModelUnavailable
from shared.models.cached import EVICTING, commits, repo_folder
from shared.models.published import read_marker, snapshot_path, wrong_sizes
from shared.models.single_file import SUFFIX, Kind, configuration_beside, is_configuration_file, kind_of
from shared.models.space import touch_used
from shared.models.whole import has_configuration
from shared.schemas import ModelSource

REVISION = "main"  # resolved to a commit when it is downloaded; what is on a volume stays what it is


def needed(source: ModelSource) -> Kind | None:
    """The kind of a file whose configuration is neither beside it nor named in its options; None for all else."""
    if source.path.suffix != SUFFIX or "config" in source.options or configuration_beside(source.path):
        return None
    try:
        state = source.path.stat()
        return _kind(source.path, state.st_size, state.st_mtime_ns)
    except (OSError, ModelUnavailable):  # evicted just now, or nothing that can be loaded: the loader says so
        return None


@lru_cache(maxsize=64)
def _kind(path: Path, size: int, changed_ns: int) -> Kind:
    """Read again only when size or time are others: jobs look for their model, and the header is on the volume."""
    return kind_of(path)


def attached(source: ModelSource, roots: Iterable[Path]) -> ModelSource:
    """The source with the configuration in its options, if it needs one that is in one of these caches."""
    kind = needed(source)
    if kind and (snapshot := folder_of(kind, roots)):
        touch_used(snapshot.parent.parent, snapshot.name)
        found = {"config": str(snapshot), "config_revision": snapshot.name}
        return replace(source, options={**source.options, **found})
    return source


def folder_of(kind: Kind, roots: Iterable[Path]) -> Path | None:
    """The configuration of such a file, if it is in one of these caches."""
    return next((found for root in roots if (found := _snapshot(root, kind.configuration))), None)


def _snapshot(root: Path, model_id: str) -> Path | None:
    repo = repo_folder(root, model_id)
    if repo is None:
        return None
    return next((snapshot_path(repo, c) for c in commits(repo, REVISION) if _is_whole(repo, c)), None)


def _is_whole(repo: Path, commit: str) -> bool:
    """Whether the texts are all there; the weights beside them, if it is a whole model, are not looked at."""
    if (repo / EVICTING.format(commit)).exists():
        return False
    if marker := read_marker(repo, commit):
        texts = {name: record for name, record in marker.files.items() if is_configuration_file(name)}
        if wrong_sizes(repo, replace(marker, files=texts)):
            return False
    return has_configuration(snapshot_path(repo, commit))
