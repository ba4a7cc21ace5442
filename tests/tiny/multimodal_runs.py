"""What the tests of the multimodal runners share: tiny checkpoints opened as models, pictures to show them, and their replies."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import TASKS, Task
from deployments.model import Call, Model, Output
from deployments.registry import LOADERS
from tests.tiny.multimodal import CHECKPOINTS

OPTIONS: dict[str, OptionValue] = {"question": "what is it?", "prompt": "Say what you see.", "labels": ("cat", "traffic light")}
WEIGHTS = "model.safetensors"


def keys_of(task: Task) -> list[str]:
    return [key for key in CHECKPOINTS if key.partition("/")[0] == task]


def opened(task: Task, folder: Path) -> Model:
    spec = TASKS[task]
    card = ModelCard(
        **{"id": "tiny/x", "family": spec.family, "loader": spec.runner, "tasks": (task,), "licence": "mit"},
        **{"origin": "test", "memory_bytes": 1, "quality": 0.5, "description": ""},
    )
    return LOADERS[spec.runner](card, folder)


def run(model: Model, task: Task, *paths: Path, **options: OptionValue) -> list[Output | ModelError]:
    return asyncio.run(model.run([Call(task, (path,), OPTIONS | options) for path in paths]))


class Bench:
    """Builds each checkpoint once and opens it once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[str, Model] = {}

    def place(self, key: str) -> Path:
        place = self.folder / key.replace("/", "--")
        if not place.exists():
            place.mkdir()
            CHECKPOINTS[key](place)
        return place

    def model(self, key: str) -> Model:
        if key not in self._models:
            self._models[key] = opened(Task(key.partition("/")[0]), self.place(key))
        return self._models[key]

    def picture(self, number: int, width: int = 80, height: int = 60) -> Path:
        """Coarse noise, another for each number."""
        path = self.folder / f"{number}-{width}-{height}.png"
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST).save(path)
        return path

    def replies(self, key: str, *paths: Path, **options: OptionValue) -> list[Output | ModelError]:
        return run(self.model(key), Task(key.partition("/")[0]), *paths, **options)

    def give(self, key: str, *paths: Path, **options: OptionValue) -> list[Output]:
        replies = self.replies(key, *paths, **options)
        return [reply for reply in replies if isinstance(reply, Output) or pytest.fail(str(reply))]

    def refusal(self, key: str, path: Path, **options: OptionValue) -> str:
        (reply,) = self.replies(key, path, **options)
        assert isinstance(reply, ModelError), reply
        assert_one_sentence(reply.message)
        return reply.message

    def assert_a_batch_is_as_single_calls(self, key: str) -> None:
        """Of pictures of different shapes."""
        paths = [self.picture(1), self.picture(2, 50, 90), self.picture(3)]
        together = self.give(key, *paths)
        alone = [self.give(key, path)[0] for path in paths]
        for one, other in zip(together, alone, strict=True):
            assert_alike(dict(one.data), dict(other.data))
        assert len({str(reply.data) for reply in together}) > 1, "the pictures make no difference"

    def assert_one_bad_picture_spoils_no_other(self, key: str) -> None:
        bad = self.folder / "bad.png"
        bad.write_bytes(b"no picture")
        first, second, third = self.replies(key, self.picture(1), bad, self.picture(2))
        assert isinstance(second, ModelError)
        assert "bad.png is not a picture" in second.message
        assert isinstance(first, Output)
        assert isinstance(third, Output)

    def refused(self, task: Task, place: Path) -> str:
        """Why the folder cannot be opened for the task."""
        with pytest.raises(ModelError) as caught:
            opened(task, place)
        assert_one_sentence(caught.value.message)
        return caught.value.message

    def copy(self, key: str) -> Path:
        copied = self.folder / f"copy-{len(list(self.folder.glob('copy-*')))}"
        shutil.copytree(self.place(key), copied)
        return copied

    def assert_damage_is_refused(self, key: str) -> None:
        copied = self.copy(key)
        content = (copied / WEIGHTS).read_bytes()
        (copied / WEIGHTS).write_bytes(b"\x00" * 100 + content[100:])
        assert "could not be loaded" in self.refused(Task(key.partition("/")[0]), copied)


def assert_one_sentence(message: str) -> None:
    assert message.startswith("tiny/x ") or message[0].islower()
    assert "\n" not in message
    assert len(message) < 400


def assert_alike(one: Any, other: Any) -> None:
    """The same, numbers nearly so."""
    match one:
        case dict():
            assert one.keys() == other.keys()
            for name in one:
                assert_alike(one[name], other[name])
        case list():
            assert len(one) == len(other)
            for pair in zip(one, other, strict=True):
                assert_alike(*pair)
        case float():
            assert other == pytest.approx(one, rel=1e-3, abs=2e-3)
        case _:
            assert one == other
