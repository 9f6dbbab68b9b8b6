"""Volumes: which are reached over a network."""

from pathlib import Path

import pytest

from shared.models.volumes import is_networked

MOUNTS = r"""overlay / overlay rw,relatime 0 0
proc /proc proc rw 0 0
10.0.0.1:/export /runpod-volume nfs4 rw 0 0
/dev/sda1 /runpod-volume/local ext4 rw 0 0
modal /cache fuse.juicefs rw 0 0
bucket /with\040space fuse.s3fs rw 0 0
back /with\134slash 9p rw 0 0
server:/a /twice nfs rw 0 0
overlay /twice overlay rw 0 0
short line
"""


@pytest.mark.parametrize(
    ("file", "networked"),
    [
        ("/runpod-volume/model.gguf", True),
        ("/runpod-volume/local/model.gguf", False),
        ("/runpod-volume2/model.gguf", False),
        ("/cache/a/b/c.gguf", True),
        ("/models/model.gguf", False),
        ("/with space/model.gguf", True),
        ("/with\\slash/model.gguf", True),
        ("/twice/model.gguf", False),
    ],
)
def test_tells_a_network_volume_by_the_mount_that_holds_the_file(tmp_path: Path, file: str, networked: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert is_networked(Path(file), mounts) is networked


def test_a_link_counts_as_where_it_leads(tmp_path: Path) -> None:
    mounts, link = tmp_path / "mounts", tmp_path / "link.gguf"
    mounts.write_text(f"overlay / overlay rw 0 0\nserver:/a {tmp_path.resolve()}/far nfs rw 0 0\n")
    link.symlink_to(tmp_path / "far" / "model.gguf")
    assert is_networked(link, mounts)


def test_a_system_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert not is_networked(tmp_path, tmp_path / "no-such-file")
    odd = tmp_path / "odd"
    odd.write_bytes(b"overlay / overlay rw 0 0\nx /\xff\xfe nfs rw 0 0\n")
    assert not is_networked(tmp_path, odd)
