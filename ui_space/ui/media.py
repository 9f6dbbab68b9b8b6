"""A visitor's files on their way to the endpoint."""

import base64
import mimetypes
from pathlib import Path

from ui.failures import Failure

MAX_BODY_BYTES = 10 * 2**20  # what RunPod reads of a request; base64 takes a third more than the file


def data_url(path: str) -> str:
    """The file as part of a job's input.

    Raises:
        Failure: it is larger than a request may be.
    """
    data = Path(path).read_bytes()
    most = MAX_BODY_BYTES * 3 // 4 - 64_000
    if len(data) > most:
        raise Failure(
            "media_too_large", f"The file is {len(data) / 1e6:.1f} MB; {most / 1e6:.1f} MB fit into a request."
        )
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
