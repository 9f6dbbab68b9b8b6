"""How image-to-video answers: as frames, as Livepeer's node wants them, or as a video."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.platforms.container.box import Box

FILMS = Path(__file__).parent / "film_handlers"
ROUTE = "/image-to-video"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with Box(tmp_path_factory.mktemp("films"), handlers=FILMS, pipeline="image-to-video") as served:
        yield served


@pytest.mark.parametrize("asked", [{}, {"output": "frames"}, {"output": ""}])
def test_frames_of_one_video_by_default(films: Box, asked: dict[str, str]) -> None:
    result = films.ok(ROUTE, asked)
    assert [len(video) for video in result["frames"]] == [3]
    assert all(frame["url"].startswith("data:image/png;base64,") for frame in result["frames"][0])
    assert {frame["seed"] for frame in result["frames"][0]} == {0}  # none was drawn; clients expect a number
    assert set(result) == {"frames", "metrics", "receipt"}


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"output": "mp4"}},
        {"data": {}, "headers": {"Accept": "video/mp4", "Content-Type": "application/x-www-form-urlencoded"}},
        {"data": {"output": "video"}, "headers": {"Accept": "video/mp4"}},
    ],
    ids=["output=mp4", "accept", "both"],
)
def test_an_mp4_alone_where_that_is_asked_for(films: Box, sent: dict[str, Any]) -> None:
    answer = films.post(ROUTE, **sent)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "video/mp4")
    assert answer.content[4:8] == b"ftyp"
    assert answer.headers["X-Seed"] == "1"


@pytest.mark.parametrize(("asked", "accept"), [({"output": "video"}, "*/*"), ({"output": "mp4"}, "application/json")])
def test_a_video_in_json(films: Box, asked: dict[str, str], accept: str) -> None:
    (video,) = films.post(ROUTE, asked, headers={"Accept": accept}).json()["videos"]
    head, _, data = video["url"].partition(",")
    assert (head, video["frames"], video["fps"]) == ("data:video/mp4;base64", 3, 6.0)
    assert base64.b64decode(data)[4:8] == b"ftyp"
