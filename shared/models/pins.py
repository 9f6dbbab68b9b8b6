"""What the catalog pins, and the configurations without which a pinned checkpoint in one file cannot be loaded."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from shared.models import configuration
from shared.models.cached import repo_folder
from shared.models.published import model_id_of, snapshot_path
from shared.models.single_file import INDEX, KINDS, SUFFIX
from shared.schemas import ModelSource

CONFIGURATIONS = {kind.configuration.lower() for kind in KINDS.values()}
Pin = tuple[str, str]  # a model's id in small letters, as the hub takes any, and a commit


class Pins:
    """Says of a model and commit whether it is pinned."""

    def __init__(self, pinned: Collection[tuple[str, str]], roots: Callable[[], list[Path]]) -> None:
        self._pinned = {_pin(*pin) for pin in pinned}
        self._roots = roots

    def __call__(self, model_id: str, commit: str) -> bool:
        pin = _pin(model_id, commit)
        return pin in self._pinned or (pin[0] in CONFIGURATIONS and pin in self._configurations())

    def _configurations(self) -> set[Pin]:
        """Those that are here for pinned files that are here."""
        roots = self._roots()
        kinds = {kind for file in self._files(roots) if (kind := configuration.needed(file))}
        folders = [folder for kind in kinds if (folder := configuration.folder_of(kind, roots))]
        return {_pin(model_id_of(folder.parent.parent), folder.name) for folder in folders}

    def _files(self, roots: list[Path]) -> Iterator[ModelSource]:
        for model_id, commit in self._pinned:
            for repo in (folder for root in roots if (folder := repo_folder(root, model_id))):
                snapshot = snapshot_path(repo, commit)
                for file in [] if (snapshot / INDEX).exists() else snapshot.rglob(f"*{SUFFIX}"):
                    yield ModelSource(model_id, commit, file, {})


def _pin(model_id: str, commit: str) -> Pin:
    return model_id.lower(), commit
