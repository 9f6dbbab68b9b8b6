"""One file of the hub, streamed into a folder that nobody else writes to: without huggingface_hub's lock files.

Its own `hf_hub_download` takes a lock by flock, which network volumes may refuse; its parts below do not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

PARTIAL = Path(".cache") / "file.incomplete"


@dataclass(frozen=True)
class Address:
    """Where a file is, and the token with which the hub at `endpoint` is asked for it."""

    url: str
    token: str | None
    endpoint: str | None


def download(address: Address, folder: Path, name: str, on_bytes: Callable[[int], None]) -> Path:
    """The file in the folder, which must be there, under its name, once it is whole; `on_bytes` may raise.

    Through xet where the hub offers it, else by HTTP, with ranges where a connection breaks.

    Raises:
        HfHubHTTPError, HTTPError, OSError, RuntimeError: of huggingface_hub, httpx2, the volume and xet.
    """
    from huggingface_hub import get_hf_file_metadata

    found = get_hf_file_metadata(address.url, token=address.token, endpoint=address.endpoint, retry_on_errors=True)
    partial, target = folder / PARTIAL, folder / name
    partial.parent.mkdir(exist_ok=True)
    try:
        _stream(address, found, partial, on_bytes)
        target.parent.mkdir(parents=True, exist_ok=True)
        return partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _stream(address: Address, found: "HfFileMetadata", partial: Path, on_bytes: Callable[[int], None]) -> None:
    from huggingface_hub.file_download import http_get, xet_get
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import _is_same_or_hub_host
    from huggingface_hub.utils._runtime import is_xet_available

    headers, bar = build_hf_headers(token=address.token), _bar(on_bytes)
    with partial.open("wb") as file:
        if found.xet_file_data and is_xet_available():
            xet_get(
                incomplete_path=partial,
                xet_file_data=found.xet_file_data,
                headers=headers,
                expected_size=found.size,
                tqdm_class=bar,
            )
            return
        if not _is_same_or_hub_host(address.url, found.location):  # the store of large files gets no token
            headers.pop("authorization", None)
        http_get(found.location, file, headers=headers, expected_size=found.size, tqdm_class=bar)


def _bar(on_bytes: Callable[[int], None]) -> Any:
    """What huggingface_hub takes for a progress bar."""

    class Bar:
        n = 0
        total: int | None = None

        def __init__(self, *args: object, **options: object) -> None:
            """Nothing is drawn."""

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *exc: object) -> None:
            """Nothing to close."""

        def update(self, number: float | None = 1) -> None:
            on_bytes(int(number or 0))

        def update_transfer(self, number: float) -> None:
            """Of use to xet only, which otherwise opens a second bar for the bytes before they are unpacked."""

        def set_postfix_str(self, *args: object, **options: object) -> None:
            """Nothing is drawn."""

        refresh = close = set_description_str = set_postfix_str

    return Bar
