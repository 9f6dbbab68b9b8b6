"""Whether a video file was cut, by what its container says of its own length."""

_SEGMENT = b"\x18\x53\x80\x67"


def is_cut(data: bytes, demuxer: str) -> bool:
    """Whether the file ends before its container does; False for MP4, whose index tells better."""
    if demuxer == "gif":
        return not data.rstrip(b"\x00").endswith(b";")  # the trailer
    if demuxer == "avi":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return demuxer == "matroska" and len(data) < _segment_end(data)


def _segment_end(data: bytes) -> int:
    """Where Matroska's segment ends; 0 where a recorder left its size open. https://www.rfc-editor.org/rfc/rfc8794"""
    size, at = _number(data, 4)
    start = at + size
    if data[start : start + 4] != _SEGMENT:
        return 0
    size, at = _number(data, start + 4)
    return at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-size integer, 0 for `unknown`, and where it ends: its leading zero bits count the bytes after."""
    length = 9 - data[at].bit_length() if data[at : at + 1] else 1
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (0 if value == (1 << 7 * length) - 1 else value), at + length
