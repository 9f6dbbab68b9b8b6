"""Writes commits into a models.json, as an editor would: every other character stays as it is."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.models.catalog import Entry
from shared.models.published import replace_text

BLANK = " \t\r\n"
Key = tuple[str, str]  # model_id, and the revision that its entries name


@dataclass(frozen=True)
class _Member:
    """Where a member of an object is in the text: its name begins, its value begins and ends."""

    begin: int
    value: int
    end: int


def write_pins(file: Path, commits: Mapping[Key, str]) -> None:
    """Pin the entries of these models and revisions at these commits.

    The file is read anew, so that what was saved while the hub was asked is kept, and replaced in one piece.
    """
    target = file.resolve()
    replace_text(target, pinned(target.read_bytes().decode(), commits))


def pinned(text: str, commits: Mapping[Key, str]) -> str:
    """The text of a models.json, with the entries pinned that are not yet and whose commit is known."""
    for begin in reversed(list(_elements(text))):  # from the end: what is inserted moves only what follows
        entry = Entry.model_validate(json.JSONDecoder().raw_decode(text, begin)[0])
        commit = commits.get((entry.model_id, entry.revision))
        if commit and not entry.pinned:
            text = _with_member(text, begin, "revision", commit, after="model_id")
            text = _with_member(text, begin, "pinned", True, after="revision")
    return text


def _with_member(text: str, begin: int, name: str, value: Any, *, after: str) -> str:
    """The text, a member of the object that begins there set: in its place, or new after another, spaced alike."""
    members, written = _members(text, begin), json.dumps(value)
    if there := members.get(name):
        return text[: there.value] + written + text[there.end :]
    before = members[after]
    space = text[len(text[: before.begin].rstrip(BLANK)) : before.begin] or " "
    return f"{text[: before.end]},{space}{json.dumps(name)}: {written}{text[before.end :]}"


def _elements(text: str) -> Iterator[int]:
    """Where each element of the list begins."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        yield at
        at = _skip(text, json.JSONDecoder().raw_decode(text, at)[1])
        at = _skip(text, at + 1) if text[at] == "," else at


def _members(text: str, begin: int) -> dict[str, _Member]:
    """The members of the object that begins there; of two with one name the last, as JSON's readers take it."""
    found: dict[str, _Member] = {}
    at = _skip(text, begin + 1)
    while text[at] != "}":
        name, end = json.JSONDecoder().raw_decode(text, at)
        value = _skip(text, _skip(text, end) + 1)
        _, end = json.JSONDecoder().raw_decode(text, value)
        found[name] = _Member(at, value, end)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _skip(text: str, at: int) -> int:
    """The next place that is not blank."""
    return next(n for n in range(at, len(text)) if text[n] not in BLANK)
