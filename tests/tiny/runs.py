"""What the tests of all hub runners share: tiny checkpoints built once and opened as models, their replies, and what must hold for each."""

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import TASKS, Task
from deployments.model import Call, MediaOutput, Model, Output
from deployments.registry import LOADERS
from tests.tiny.cards import card_for

if TYPE_CHECKING:
    import numpy.typing as npt

Folder = Callable[[str], Path]  # of the checkpoint with this key


def task_of(key: str) -> Task:
    """Of a checkpoint: "image-to-text/blip" is one for image-to-text."""
    return Task(key.partition("/")[0])


def opened(key: str, folder: Path, model_id: str = "tiny/x") -> Any:
    task = task_of(key)
    return LOADERS[TASKS[task].runner](card_for(task, TASKS[task].runner, model_id), folder)


def run(model: Model, key: str, *inputs: str | Path, **options: OptionValue) -> list[Output | ModelError]:
    """The replies to one call an input."""
    return asyncio.run(model.run([Call(task_of(key), (one,), options) for one in inputs]))


def give(model: Model, key: str, one: str | Path, **options: OptionValue) -> Output:
    return told(run(model, key, one, **options)[0])


def told(reply: Output | ModelError) -> Output:
    assert isinstance(reply, Output), reply
    return reply


def refused(reply: Output | ModelError) -> str:
    assert isinstance(reply, ModelError), reply
    assert_one_sentence(reply.message)
    return reply.message


def pixels(reply: Any) -> "npt.NDArray[np.int64]":
    """(height, width) of a grey picture, (height, width, 3) of a coloured one."""
    from PIL import Image

    assert isinstance(reply, Output), reply
    assert isinstance(reply.value, MediaOutput)
    assert reply.value.media_type == "image/png"
    picture = Image.open(BytesIO(reply.value.content))
    assert picture.size == (reply.data["width_px"], reply.data["height_px"])
    return np.asarray(picture).astype(np.int64)


class Checkpoints:
    """Builds each checkpoint once and opens it once."""

    def __init__(self, folder: Path, builders: Mapping[str, Callable[[Path], None]]) -> None:
        self.folder = folder
        self._builders = builders
        self._models: dict[str, Any] = {}

    def place(self, key: str) -> Path:
        place = self.folder / key.replace("/", "--")
        if not place.exists():
            place.mkdir()
            self._builders[key](place)
        return place

    def model(self, key: str) -> Any:
        if key not in self._models:
            self._models[key] = opened(key, self.place(key))
        return self._models[key]

    def copy(self, key: str) -> Path:
        """One that a test may spoil."""
        copied = self.folder / f"copy-{len(list(self.folder.glob('copy-*')))}"
        shutil.copytree(self.place(key), copied)
        return copied

    def changed(self, key: str, name: str, **settings: Any) -> Path:
        """A copy in which a JSON file says something else."""
        copied = self.copy(key)
        path = copied / name
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return copied

    def refused(self, key: str, place: Path) -> str:
        """Why the folder cannot be opened for the key's task."""
        with pytest.raises(ModelError) as caught:
            opened(key, place)
        assert_one_sentence(caught.value.message)
        return caught.value.message

    def assert_damage_is_refused(self, key: str) -> None:
        """A file of weights cut short, and one that holds something else."""
        spoilt = self.copy(key)
        weights = max(spoilt.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
        whole = weights.read_bytes()
        for content in (whole[: len(whole) // 2], b"\x00" * 100 + whole[100:], b"not tensors at all"):
            weights.write_bytes(content)
            assert self.refused(key, spoilt).startswith("tiny/x could not be loaded: ")

    def assert_another_network_is_refused(self, key: str) -> None:
        lying = self.copy(key)
        (lying / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))
        assert self.refused(key, lying) == f"tiny/x is a checkpoint of BertForMaskedLM, which cannot do {task_of(key)}"


def assert_one_sentence(message: str) -> None:
    assert message
    assert "\n" not in message
    assert len(message) < 400


def assert_alike(one: Any, other: Any, rel: float = 1e-3, off: float = 2e-3) -> None:
    """The same, with numbers nearly so: by a share of their size, or by `off`."""
    assert type(one) is type(other)
    match one:
        case dict():
            assert one.keys() == other.keys()
            for name in one:
                assert_alike(one[name], other[name], rel, off)
        case list():
            assert len(one) == len(other)
            for mine, its in zip(one, other, strict=True):
                assert_alike(mine, its, rel, off)
        case int() | float():
            assert one == pytest.approx(other, rel=rel, abs=off)
        case _:
            assert one == other
