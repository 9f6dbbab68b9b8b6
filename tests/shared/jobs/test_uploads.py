"""The memory that uploads take together."""

from contextlib import ExitStack

import pytest

from shared.errors import QueueFull
from shared.jobs.uploads import AT_ONCE, SMALL, Uploads

FILE = 600_000


def test_uploads_find_room_until_they_take_too_much_together() -> None:
    heard: list[str] = []
    uploads = Uploads(FILE, heard.append)
    half = str(AT_ONCE * uploads.limit // 2)
    assert int(half) > uploads.limit  # more than a body may have, which counts as the largest one
    with uploads.room(half), uploads.room(half), uploads.room(half):
        with uploads.room(str(uploads.limit)), pytest.raises(QueueFull) as refused, uploads.room(str(SMALL + 1)):
            pass
        with uploads.room(str(uploads.limit)):  # the fourth has left
            pass
    assert refused.value.detail["retry_after_s"] > 0
    assert heard == [QueueFull.code]


def test_a_small_body_always_finds_room() -> None:
    uploads = Uploads(FILE)
    with uploads.room(None), uploads.room(None), uploads.room(None), uploads.room(None):
        with uploads.room(str(SMALL)):
            pass
        with pytest.raises(QueueFull), uploads.room(None):  # it does not say how long it is
            pass


@pytest.mark.parametrize("length", ["-1", "many", "9" * 5000])
def test_a_length_that_is_none_counts_as_the_largest(length: str) -> None:
    uploads = Uploads(FILE)
    with ExitStack() as others, pytest.raises(QueueFull):
        for _ in range(AT_ONCE - 1):
            others.enter_context(uploads.room(None))
        others.enter_context(uploads.room(str(SMALL + 1)))
        others.enter_context(uploads.room(length))


def test_an_upload_that_fails_gives_its_room_back() -> None:
    uploads = Uploads(FILE)
    for _ in range(AT_ONCE + 1):
        with pytest.raises(ConnectionError), uploads.room(None):
            raise ConnectionError
