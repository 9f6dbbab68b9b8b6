"""Results of other shapes: the files that stand anywhere within them, and the rest as JSON that can be read."""

import mimetypes
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

INLINE = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)(?:;[^,;]+)*;base64,", re.IGNORECASE)
LONGEST = 2_000  # characters of a text within JSON
PLACE = "(a file, see below)"
PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif")
FILMS = ("video/mp4", "video/webm")

Found = tuple[str, str]
"""What a file is called, and its address."""


def apart(value: Any, owns: Callable[[str], bool], name: str = "result") -> tuple[Any, list[Found]]:
    """The value without its files, and the files: those that are inline, and those that the endpoint `owns`.

    Other addresses stay text: a worker may repeat what a stranger wrote, and the page fetches nothing for strangers.
    """
    if isinstance(value, dict):
        parts = {key: apart(each, owns, name if key == "url" else str(key)) for key, each in value.items()}
        return {key: rest for key, (rest, _) in parts.items()}, [f for _, found in parts.values() for f in found]
    if isinstance(value, list):
        listed = [apart(each, owns, name) for each in value]
        return [rest for rest, _ in listed], [f for _, found in listed for f in found]
    if not isinstance(value, str):
        return value, []
    if INLINE.match(value) or owns(value):
        return PLACE, [(f"{_plain(name)}{_ending(value)}", value)]
    return (value if len(value) <= LONGEST else f"{value[:LONGEST]}… ({len(value)} characters)"), []


def kind(url: str) -> str:
    """`image` or `video` where the page can show the file, else `file`."""
    media_type = _media_type(url)
    return "image" if media_type in PICTURES else "video" if media_type in FILMS else "file"


def _media_type(url: str) -> str | None:
    inline = INLINE.match(url)
    return inline[1].lower() if inline else mimetypes.guess_type(urlsplit(url).path)[0]


def _ending(url: str) -> str:
    media_type = _media_type(url)
    return (mimetypes.guess_extension(media_type) if media_type else None) or ".bin"


def _plain(name: str) -> str:
    """The name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:40].strip("-") or "result"
