import pytest

from shared.errors import InvalidInput
from shared.media.headers import check_headers


def test_lets_ordinary_headers_pass() -> None:
    check_headers({"Content-Type": "image/png", "x-ms-blob-type": "BlockBlob", "Authorization": "abc"})


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection"])
def test_keeps_routing_and_framing_to_itself(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        check_headers({name: "x"})


@pytest.mark.parametrize(
    "headers", [{"X": "secret\r\nHost: a"}, {"X\r\nY": "a"}, {"": "a"}, {"X": "secret\u4e2d"}, {"X": "secret\0"}]
)
def test_refuses_what_would_break_out_of_a_header(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_headers(headers)
    assert "secret" not in str(caught.value)
