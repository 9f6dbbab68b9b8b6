"""One line per stage of a job: readable on a terminal, JSON elsewhere."""

import json
import logging
import sys
import time
from typing import Any, TextIO

logger = logging.getLogger("pilotlight")


class _Json(logging.Formatter):
    """One JSON object a line, with the stage's fields beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    """Time, message, then the fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{k}={v}" for k, v in getattr(record, "fields", {}).items() if v is not None)
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        text = f"{clock} {level}{record.getMessage()} {fields}".rstrip()
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send the project's log to `stream` (stderr); call once, in the entry point."""
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Text() if out.isatty() else _Json())
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def stage(name: str, job: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log one stage of a job; fields hold no prompts and no media."""
    logger.log(level, name, extra={"fields": {"job": job, **fields}})
