import pytest

from shared.media.sizes import in_words


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (64_000, "64 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (82_000_000, "82 MB"),
        (9_800_000, "9.8 MB"),
        (4_000_000_000, "4 GB"),
    ],
)
def test_says_sizes_in_words(n_bytes: int, words: str) -> None:
    assert in_words(n_bytes) == words
