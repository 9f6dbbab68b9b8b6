"""Which file a request prefers to JSON, by its Accept header (RFC 9110, 12.5.1)."""

from collections.abc import Iterator
from functools import lru_cache

FILES = ("image/png", "image/webp", "image/jpeg", "video/mp4")
_WILD = {"image/*": "image/png", "video/*": "video/mp4"}


@lru_cache(maxsize=64)  # clients send the same ones again and again
def preferred_file(accept: str) -> str | None:
    """The media type of the file that is wanted alone; None for JSON, which is what `*/*` gets."""
    json, best, found = 0.0, 0.0, None
    for media_type, quality in _ranges(accept):
        kind = _WILD.get(media_type, media_type)
        if kind in FILES and quality > best:
            best, found = quality, kind
        elif media_type in ("application/json", "application/*"):
            json = max(json, quality)
    return found if best > json else None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            yield media_type, float(quality)
        except ValueError:
            continue
