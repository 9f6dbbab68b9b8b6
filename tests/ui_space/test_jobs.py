"""The jobs that a browser remembers: what is noted of them, and what becomes of notes that others wrote."""

import json
from typing import Any

import pytest

from ui import jobs
from ui.jobs import Noted

TITLES = {"fly-kite": "Fly kite"}
NOTE: dict[str, Any] = {"job": "j-1", "pipeline": "fly-kite"}


def kept(*entries: Any) -> list[Noted]:
    return jobs.read(json.dumps(entries))


def test_a_note_holds_what_was_asked_and_no_files() -> None:
    picture = "data:image/png;base64,cG5n"
    given = {"pipeline": "fly-kite", "name": "Alba", "image": picture, "images": [picture], "notes": "x" * 20_000}
    (noted,) = jobs.read(f"[{jobs.begun('j-1', given, 'a' * 500)}]")
    assert noted == Noted("j-1", "fly-kite", "a" * 200, "IN_QUEUE", "", {"name": "Alba"})


def test_what_became_of_a_job_is_noted_under_its_own_id() -> None:
    assert json.loads(jobs.changed("j-1#2", "FAILED")) == {"job": "j-1", "state": "FAILED"}


@pytest.mark.parametrize("stored", ["", "{", "7", "null", "{}", '"text"', "[" * 100_000])
def test_what_is_no_list_of_jobs_is_none(stored: str) -> None:
    assert jobs.read(stored) == []


@pytest.mark.parametrize(
    "strange", [None, 3, [], "j-1", {}, {"job": 3}, {"job": ""}, {**NOTE, "job": "../health"}, {**NOTE, "job": None}]
)
def test_a_strange_entry_is_passed_over(strange: Any) -> None:
    assert [noted.job for noted in kept(strange, NOTE)] == ["j-1"]


def test_strange_members_are_as_if_they_were_not_there() -> None:
    (noted,) = kept({**NOTE, "about": {"a": 1}, "state": 7, "when": None, "params": "many", "more": 1})
    assert noted == Noted("j-1", "fly-kite")


def test_rows_are_links_newest_first_for_the_pipelines_that_the_page_has() -> None:
    shown = jobs.rows(
        kept({**NOTE, "state": "COMPLETED", "when": "today"}, {"job": "j-2", "pipeline": "swim"}), TITLES
    )
    assert shown.count("<li>") == 1
    assert 'href="?job=fly-kite%2Fj-1" data-job="fly-kite/j-1"' in shown
    assert "today · done" in shown
    assert jobs.EMPTY in jobs.rows(kept({"job": "j-2", "pipeline": "swim"}), TITLES)


def test_what_the_browser_kept_cannot_become_html() -> None:
    shown = jobs.rows(kept({**NOTE, "about": "<img src=x>", "when": '"><script>', "state": "<b>"}), TITLES)
    assert "<img" not in shown
    assert "<script" not in shown
