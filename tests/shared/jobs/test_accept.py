"""Which file an Accept header prefers to JSON."""

import pytest

from shared.jobs.accept import preferred_file


@pytest.mark.parametrize(
    ("accept", "file_type"),
    [
        ("", None),
        ("*/*", None),
        ("application/json", None),
        ("image/png", "image/png"),
        ("IMAGE/WEBP ; q=0.9", "image/webp"),
        ("video/mp4, */*", "video/mp4"),
        ("image/*", "image/png"),
        ("image/avif, image/webp, */*;q=0.8", "image/webp"),
        ("image/jpeg;q=0.4, image/png;q=0.6", "image/png"),
        ("image/png;q=0.5, application/json", None),
        ("image/png, application/json", None),
        ("application/json;q=0.1, image/png;q=0.2", "image/png"),
        ("image/png;q=0", None),
        ("image/png;q=high", None),
        ("text/html", None),
    ],
)
def test_a_file_is_sent_alone_where_it_is_wanted_more_than_json(accept: str, file_type: str | None) -> None:
    assert preferred_file(accept) == file_type
