"""The pipeline `tell`, under the name by which the command line prints text as it comes."""

from tests.platforms.extra_handlers.tell import handler

__all__ = ["handler"]
