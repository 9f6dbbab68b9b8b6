"""Which request headers a job may set."""

import re
from collections.abc import Mapping

from shared.errors import InvalidInput

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that would change where a request goes or how it is framed.

    Raises:
        InvalidInput: naming the header, never its value.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidInput(f"header {name[:40]!r} has characters that HTTP does not carry")
        if name.lower() in _OWN_HEADERS:
            raise InvalidInput(f"header {name} is not for a job to set; leave it out")
