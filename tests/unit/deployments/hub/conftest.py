"""The tiny checkpoints of every task, each built once a session."""

import pytest

from tests.tiny.runs import Checkpoints, Folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    from tests.tiny.hub import CHECKPOINTS  # here: it imports torch and all that runs on it

    return Checkpoints(tmp_path_factory.mktemp("checkpoints"), CHECKPOINTS)


@pytest.fixture(scope="session")
def checkpoint(checkpoints: Checkpoints) -> Folder:
    """Gives the folder of a checkpoint, which no test may change."""
    return checkpoints.place


@pytest.fixture(scope="session")
def copy(checkpoints: Checkpoints) -> Folder:
    """Gives a checkpoint that a test may spoil."""
    return checkpoints.copy
