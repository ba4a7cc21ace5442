"""The error tree: what crosses processes arrives whole, and the door answers with the right status."""

import pickle

import pytest

from cluster import errors
from cluster.errors import HuggingGPTError


def tree(root: type[HuggingGPTError] = HuggingGPTError) -> list[type[HuggingGPTError]]:
    return [root, *(kind for child in root.__subclasses__() if child.__module__ == errors.__name__ for kind in tree(child))]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_its_message_status_and_code(kind: type[HuggingGPTError]) -> None:
    arrived = pickle.loads(pickle.dumps(kind("f1 is empty")))  # noqa: S301 - what Ray does
    assert type(arrived) is kind
    assert (arrived.message, str(arrived)) == ("f1 is empty", "f1 is empty")
    assert (arrived.status, arrived.code) == (kind.status, kind.code)


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_the_drawing_of_the_tree_tells_each_status(kind: type[HuggingGPTError]) -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if f"{kind.__name__} " in line]
    assert lines, f"{kind.__name__} is missing in the module's docstring"
    assert str(kind.status) in lines[0].split()


def test_every_error_code_is_its_own() -> None:
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)
