"""The project's log as a test reads it, by a handler of its own, whatever else the process has set up."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from shared import logs


class Lines(logging.Handler):
    """Everything that is logged, as the JSON log has it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def named(self, message: str) -> list[logging.LogRecord]:
        """The records of one stage."""
        return [record for record in self.records if record.getMessage() == message]

    def text(self) -> str:
        return json.dumps([{**vars(record), "msg": record.getMessage()} for record in self.records], default=str)


@contextmanager
def logged() -> Iterator[Lines]:
    """All that the project logs meanwhile, from DEBUG on."""
    lines, level = Lines(), logs.logger.level
    logs.logger.addHandler(lines)
    logs.logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logs.logger.removeHandler(lines)
        logs.logger.setLevel(level)
