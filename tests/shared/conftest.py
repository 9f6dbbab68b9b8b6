"""Checkpoints of random weights, made once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest

Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The folder of a tiny checkpoint by its name in `tiny.CHECKPOINTS`; made when it is first wanted."""
    import torch

    from tests.shared.models.tiny import CHECKPOINTS

    torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = CHECKPOINTS[name](tmp_path_factory.mktemp("checkpoints") / name)
        return made[name]

    return folder
