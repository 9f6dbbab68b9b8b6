"""Commits written into the text of a models.json."""

import json
from pathlib import Path

import pytest

from shared.models.pinning import pinned, write_pins

COMMIT = "a" * 40
COMMITS = {("a/b", "main"): COMMIT}
MAIN = '"pipeline": "p", "model_id": "a/b"'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"[{{{MAIN}}}]", f'[{{{MAIN}, "revision": "{COMMIT}", "pinned": true}}]'),
        (
            f'[{{"pinned": false, {MAIN}, "warm": true}}]',
            f'[{{"pinned": true, {MAIN}, "revision": "{COMMIT}", "warm": true}}]',
        ),
        (
            '[\n\t{"model_id": "a/b",\n\t "revision": "main",\n\t "pipeline": "p"}\n]',
            f'[\n\t{{"model_id": "a/b",\n\t "revision": "{COMMIT}",\n\t "pinned": true,\n\t "pipeline": "p"}}\n]',
        ),
        (
            '[{"model_id":"a/b","pipeline":"p"}]',
            f'[{{"model_id":"a/b", "revision": "{COMMIT}", "pinned": true,"pipeline":"p"}}]',
        ),
        (
            f'[{{{MAIN}, "defaults": {{"revision": "]}}"}}}}]',
            f'[{{{MAIN}, "revision": "{COMMIT}", "pinned": true, "defaults": {{"revision": "]}}"}}}}]',
        ),
        (
            f'[{{{MAIN}, "pinned": true, "pinned": false}}]',
            f'[{{{MAIN}, "revision": "{COMMIT}", "pinned": true, "pinned": true}}]',
        ),
    ],
)
def test_only_revision_and_pinned_change(before: str, after: str) -> None:
    assert pinned(before, COMMITS) == after
    assert json.loads(after)[0]["revision"] == COMMIT


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        " [ ] \n",
        '[{"pipeline": "p", "model_id": "c/d"}]',
        f'[{{{MAIN}, "revision": "v1"}}]',
        f'[{{{MAIN}, "revision": "{"b" * 40}", "pinned": true}}]',
    ],
)
def test_what_no_commit_is_for_stays(text: str) -> None:
    assert pinned(text, COMMITS) == text


def test_line_ends_and_other_alphabets_stay_and_a_link_goes_on_leading_there(tmp_path: Path) -> None:
    file, link = tmp_path / "list.json", tmp_path / "link.json"
    file.write_bytes(f'[\r\n{{{MAIN},\r\n"defaults": {{"prompt": "Füße"}}}}]'.encode())
    link.symlink_to(file)
    write_pins(link, COMMITS)
    assert link.is_symlink()
    added = f', "revision": "{COMMIT}", "pinned": true'
    assert file.read_bytes() == f'[\r\n{{{MAIN}{added},\r\n"defaults": {{"prompt": "Füße"}}}}]'.encode()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["link.json", "list.json"]
