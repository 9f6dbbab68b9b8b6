"""Memory that an answer has used is kept for the next one, where the C library would hand it back page by page."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT_BYTES = 64 * 2**20  # at the end of each of its areas
LARGEST_BYTES = 32 * 2**20  # glibc takes no more; what is larger is handed back at once


def keep_freed_memory() -> None:
    """Tell glibc; does nothing elsewhere. To be called once, before the server starts."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if mallopt := getattr(library, "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
