"""What the Hugging Face hub has of a model, and its files one by one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shared.errors import ModelUnavailable
from shared.models import hub_file
from shared.models.hub_errors import asked, offline


@dataclass(frozen=True)
class Remote:
    """One file on the hub; large ones have a sha256, the others git's hash."""

    name: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True)
class Listing:
    """All files of a model at one commit."""

    model_id: str
    commit: str
    files: tuple[Remote, ...]

    def names(self) -> list[str]:
        """Their names, in the hub's order."""
        return [file.name for file in self.files]

    def only(self, names: list[str]) -> "Listing":
        """The same with these files, of which small ones come first: what is missing shows early."""
        files = sorted((f for f in self.files if f.name in set(names)), key=lambda f: f.size or 0)
        return Listing(self.model_id, self.commit, tuple(files))

    def total(self) -> int:
        """Bytes of all files whose size the hub tells."""
        return sum(file.size or 0 for file in self.files)


class Hub:
    """The hub at `url`, by default HF_ENDPOINT, as the owner of `token` sees it."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self._url = url
        self._token = token

    def check_online(self, model_id: str) -> None:
        """Raises ModelUnavailable where HF_HUB_OFFLINE forbids to ask."""
        from huggingface_hub.constants import is_offline_mode

        if is_offline_mode():
            raise offline(model_id)

    def listing(self, model_id: str, revision: str) -> Listing:
        """What the model has at a commit, or at a branch as it is now.

        Raises:
            ModelUnavailable: the hub does not tell, or lists what is no file of the model.
        """
        from huggingface_hub import HfApi

        api = HfApi(self._url, token=self._token)
        info = asked(
            api, model_id, revision, lambda: api.model_info(model_id, revision=revision, files_metadata=True)
        )
        for sibling in info.siblings or ():
            _must_be_inside(model_id, sibling.rfilename)
        files = (
            Remote(s.rfilename, s.size, s.lfs.sha256 if s.lfs else None, None if s.lfs else s.blob_id)
            for s in info.siblings or ()
        )
        return Listing(model_id, str(info.sha), tuple(files))

    def fetch(self, listing: Listing, file: Remote, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        """One file into the folder, under its own name; `on_bytes` may raise, which ends it.

        Raises:
            ModelUnavailable: it cannot be had.
            DiskFull: there is no space for it; what came of it is removed.
        """
        from huggingface_hub import HfApi, hf_hub_url

        def download() -> Path:
            url = hf_hub_url(listing.model_id, file.name, revision=listing.commit, endpoint=self._url)
            return hub_file.download(hub_file.Address(url, self._token, self._url), folder, file.name, on_bytes)

        return asked(HfApi(self._url, token=self._token), listing.model_id, listing.commit, download)


def _must_be_inside(model_id: str, name: str) -> None:
    """Git has no such names; a hub that answers with one would write elsewhere on the volume."""
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise ModelUnavailable(
            f"'{model_id}' is refused: the hub lists a file outside of its folder; check HF_ENDPOINT", reason="format"
        )
