"""One line per stage of a job: readable on a terminal, JSON elsewhere."""

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from shared.timestamps import rfc3339

logger = logging.getLogger("pilotlight")
Write = Callable[[float, str, str, Mapping[str, Any], str | None], str]
_encoder = json.JSONEncoder(default=str)


def _json(created: float, level: str, message: str, fields: Mapping[str, Any], traceback: str | None) -> str:
    """One JSON object, with the stage's fields beside the message."""
    line: dict[str, Any] = {"time": rfc3339(created), "level": level, "message": message, **fields}
    if traceback:
        line["traceback"] = traceback
    return _encoder.encode(line)


def _text(created: float, level: str, message: str, fields: Mapping[str, Any], traceback: str | None) -> str:
    """Time, message, then the fields as key=value."""
    clock = time.strftime("%H:%M:%S", time.localtime(created))
    shown = " ".join(f"{k}={v}" for k, v in fields.items() if v is not None)
    text = f"{clock} {'' if level == 'INFO' else f'{level} '}{message} {shown}".rstrip()
    return text + (f"\n{traceback}" if traceback else "")


class _Lines(logging.Handler):
    """Writes the project's log to a stream, each line at once."""

    def __init__(self, stream: TextIO, write: Write) -> None:
        super().__init__()
        self._stream = stream
        self._write = write
        self._one_at_a_time = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
            self.put(record.created, record.levelname, record.getMessage(), getattr(record, "fields", {}), traceback)
        except Exception:  # noqa: BLE001 a line that cannot be written must not end what it tells of
            self.handleError(record)

    def put(
        self, created: float, level: str, message: str, fields: Mapping[str, Any], traceback: str | None = None
    ) -> None:
        """Write one line; one that does not fit on the disk must not end the job that it tells of."""
        line = self._write(created, level, message, fields, traceback) + "\n"
        with self._one_at_a_time, contextlib.suppress(OSError):
            self._stream.write(line)
            self._stream.flush()


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send the project's log to `stream` (stderr); call once, in the entry point."""
    out = stream or sys.stderr
    logger.handlers[:] = [_Lines(out, _text if out.isatty() else _json)]
    logger.setLevel(level)
    logger.propagate = False


def stage(name: str, job: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log one stage of a job; fields hold no prompts and no media."""
    if not logger.isEnabledFor(level):
        return
    told = {"job": job, **fields}
    only = logger.handlers[0] if len(logger.handlers) == 1 else None
    if isinstance(only, _Lines) and not logger.propagate:
        # without a LogRecord, which knows the file, line, thread and process: half of the time of a line
        only.put(time.time(), logging.getLevelName(level), name, told)
    else:
        logger.log(level, name, extra={"fields": told})
