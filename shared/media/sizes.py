"""Byte counts in words, for messages that name a limit."""


def in_words(n_bytes: int) -> str:
    """`82 MB` for 82,000,000: decimal units, three digits at most."""
    if n_bytes < 1_000:
        return f"{n_bytes} bytes"
    if n_bytes < 999_500:
        return f"{n_bytes / 1e3:.3g} kB"
    return f"{n_bytes / 1e6:.3g} MB" if n_bytes < 999_500_000 else f"{n_bytes / 1e9:.3g} GB"
