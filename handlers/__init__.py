"""The pipelines: the folder is the registry, one file a handler, nothing to register."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from shared.errors import InvalidInput, NotFound
from shared.schemas import Handler

HERE = Path(__file__).parent


class Folders:
    """The handlers of this folder, and those of a folder kept elsewhere (`HANDLERS`), which may replace ours."""

    def __init__(self, extra: Path | None = None) -> None:
        """Take stock of both folders; imports nothing.

        Raises:
            InvalidInput: `extra` is not a folder.
        """
        if extra and not extra.is_dir():
            raise InvalidInput(f"HANDLERS: there is no folder {extra}")
        self._files = {_pipeline(f): f for folder in (HERE, extra) if folder for f in _modules(folder)}
        self._loaded: dict[str, Handler] = {}

    def names(self) -> list[str]:
        """The pipelines there are, sorted."""
        return sorted(self._files)

    def get(self, name: str) -> Handler:
        """The handler of a pipeline; imports its file only.

        Raises:
            NotFound: naming the pipelines there are.
        """
        if name not in self._files:
            raise NotFound(f"no pipeline '{name}'; there are: {', '.join(self.names())}", pipelines=self.names())
        if name not in self._loaded:
            self._loaded[name] = _handler(self._files[name])
        return self._loaded[name]


def _modules(folder: Path) -> list[Path]:
    return [f for f in sorted(folder.glob("*.py")) if not f.name.startswith("_")]


def _pipeline(file: Path) -> str:
    return file.stem.replace("_", "-")


def _handler(file: Path) -> Handler:
    handler = getattr(_module(file), "handler", None)
    if not isinstance(handler, Handler):
        raise TypeError(f"{file} must end with `handler = Handler(params=..., load=..., run=...)`")
    return handler


def _module(file: Path) -> ModuleType:
    if file.parent == HERE:
        return importlib.import_module(f"handlers.{file.stem}")
    name = f"_extra_handlers.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot read {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks a class's module up by name
    spec.loader.exec_module(module)
    return module


_builtin = Folders()
names = _builtin.names
get = _builtin.get
