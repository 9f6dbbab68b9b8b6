"""Tells volumes that are reached over a network from disks of this machine."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORKS = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "lustre", "beegfs", "gluster", "afs", "gpfs", "virtiofs")


def is_networked(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether the file lies on a network volume; False where the system does not tell.

    A file system in user space counts as one: network volumes of clouds are mounted so.
    """
    try:
        lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    except OSError:
        return False
    file = path.resolve()
    holding = [(Path(_unescaped(fields[1])), fields[2]) for fields in lines if len(fields) > 2]
    around = [(len(point.parts), kind) for point, kind in holding if file.is_relative_to(point)]
    # of several at one point, the last is the one that is seen
    return bool(around) and max(reversed(around), key=lambda mount: mount[0])[1].startswith(NETWORKS)


def _unescaped(point: str) -> str:
    """A mount point from how /proc writes it: spaces and the like as three octal digits; see fstab(5)."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
